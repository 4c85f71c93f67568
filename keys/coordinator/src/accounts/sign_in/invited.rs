//! The first entry of somebody who was invited: by the word of a provider in the place of a password.

use mytunnel_keys::api;
use mytunnel_sign_in::Identity;
use zeroize::Zeroizing;

use super::{Begun, Trouble, internal, new_link, not_begun};
use crate::accounts::new_account_id;
use crate::accounts::people::{invitation_hash, no_invitation};
use crate::http::ApiError;
use crate::shared::Shared;
use crate::store::{Account, Purpose, Visit};

impl Shared {
    /// Begins a sign-in that makes the account which an invitation is for.
    pub(crate) async fn begin_invited(
        &self,
        asked: api::InvitedSignIn,
        visit: &Visit,
    ) -> Result<Begun, ApiError> {
        let code = invitation_hash(&Zeroizing::new(asked.code));
        if self.store.invited(code, self.clock.now()).await?.is_none() {
            return Err(self.wrong_code(visit.address, "invitation", no_invitation()).await);
        }
        self.known_provider(&asked.provider)?;
        self.begin_sign_in(asked.provider, Purpose::Invitation(code), visit).await.map_err(not_begun)
    }

    pub(super) async fn join_by_identity(
        &self,
        code: [u8; 32],
        provider: &str,
        identity: Identity,
    ) -> Result<Account, Trouble> {
        let account = new_account_id().map_err(|error| internal(&error))?;
        let link = new_link(provider).map_err(|error| internal(&error))?;
        let joined = self.store.join_by_identity(code, account, link, identity, self.clock.now()).await;
        joined.map_err(|error| internal(&error))?.map_err(Trouble::from)
    }
}
