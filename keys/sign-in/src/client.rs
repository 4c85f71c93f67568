//! Asks providers, and remembers what they said of themselves.

use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use data_encoding::BASE64;
use tokio::sync::Mutex;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::claims::{Claims, Identity, Person};
use crate::discovery::{self, Metadata};
use crate::error::{SignInError, TokenError};
use crate::flow::{Callback, Flow};
use crate::github;
use crate::http::{Http, Tokens};
use crate::keys::Keys;
use crate::provider::{Dialect, Provider, SettingsError};

/// What an issuer said of itself, and its keys, are asked for again after so many seconds.
const KEPT: u64 = 3600;
/// A token by an unknown key makes us ask for the keys again, but not within so many seconds of the last time: whoever
/// sends such tokens would make us knock at the issuer's door.
const ASK_AGAIN: u64 = 30;
/// An issuer that gave no answer is left alone for so many seconds: whoever waits for it meanwhile is told at once, and what it
/// said before goes on counting for a day.
const SILENT: u64 = 5;
const BRIDGED: u64 = 24 * 3600;

/// Everybody who vouches for people here. Whoever holds it sees at once when others do: [`Client::replace`].
#[derive(Debug, Default)]
pub struct Client {
    providers: Arc<RwLock<Vec<Listed>>>,
    asks_for: For,
}

/// Whom a client asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum For {
    /// Those who work with what is shared: few, and known.
    #[default]
    Users,
    /// Anybody who visits it.
    Visitors,
}

/// A provider, which is asked for each of them apart.
#[derive(Debug)]
struct Listed {
    by_users: Arc<Known>,
    by_visitors: Arc<Known>,
}

#[derive(Debug)]
struct Known {
    provider: Arc<Provider>,
    http: Http,
    // Held while the issuer is asked, so that it is asked once.
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    metadata: Option<Dated<Metadata>>,
    keys: Option<Dated<Keys>>,
    silent: Option<Dated<Silence>>,
}

/// Why an issuer was not heard.
#[derive(Debug, Clone)]
struct Silence {
    what: &'static str,
    source: Arc<ureq::Error>,
}

#[derive(Debug, Clone)]
struct Dated<T> {
    of: u64,
    it: T,
}

impl<T: Clone> Dated<T> {
    fn within(known: Option<&Self>, now: u64, seconds: u64) -> Option<T> {
        // One of the future is of a clock that was set back.
        let known = known.filter(|known| known.of <= now && now < known.of + seconds);
        known.map(|known| known.it.clone())
    }
}

impl Client {
    /// Makes it for these providers.
    ///
    /// # Errors
    /// When two have one id.
    pub fn new(providers: Vec<Provider>) -> Result<Self, SettingsError> {
        for (at, provider) in providers.iter().enumerate() {
            if providers[..at].iter().any(|earlier| earlier.id == provider.id) {
                return Err(SettingsError::Twice(provider.id.clone()));
            }
        }
        let http = |own: Option<&[_]>| own.map_or_else(Http::new, |own| Http::new().trusting(own));
        let known = |provider: &Arc<Provider>| {
            let http = http(provider.authorities.as_deref());
            Arc::new(Known { http, provider: Arc::clone(provider), memory: Mutex::default() })
        };
        let listed = providers.into_iter().map(Arc::new);
        let listed = listed.map(|it| Listed { by_users: known(&it), by_visitors: known(&it) });
        Ok(Self { providers: Arc::new(RwLock::new(listed.collect())), asks_for: For::Users })
    }

    /// The same providers, asked for whoever visits what is shared: in bounds of their own, so that a flood of visitors keeps nobody from
    /// signing in to what they share. It sees at once, too, when others vouch.
    #[must_use]
    pub fn for_visitors(&self) -> Self {
        Self { providers: Arc::clone(&self.providers), asks_for: For::Visitors }
    }

    /// The providers, in the order in which they were configured.
    pub fn providers(&self) -> Vec<Arc<Provider>> {
        self.all().iter().map(|listed| Arc::clone(&listed.by_users.provider)).collect()
    }

    /// Lets those of `newer` vouch, and nobody else. A sign-in that was begun with a provider which stays can be ended.
    pub fn replace(&self, newer: Self) {
        let newer = mem::take(&mut *newer.providers.write().unwrap_or_else(PoisonError::into_inner));
        *self.providers.write().unwrap_or_else(PoisonError::into_inner) = newer;
    }

    /// Whether nobody vouches.
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// The provider of that id.
    pub fn provider(&self, id: &str) -> Option<Arc<Provider>> {
        self.known(id).ok().map(|known| Arc::clone(&known.provider))
    }

    /// The address that begins a sign-in in the browser. With `max_age` the provider is to ask whoever has proved nothing for
    /// so many seconds again; the identity tells whether it did, and GitHub's never does.
    ///
    /// # Errors
    /// When there is no such provider, or its issuer cannot be asked.
    pub async fn address(
        &self,
        id: &str,
        flow: &Flow,
        redirect_uri: &str,
        max_age: Option<u64>,
        now: u64,
    ) -> Result<String, SignInError> {
        let known = self.known(id)?;
        let endpoint = match known.provider.dialect {
            Dialect::GitHub => github::Endpoints::of(&known.provider.issuer)?.authorization,
            Dialect::OpenId { .. } => known.metadata(now).await?.authorization,
        };
        Ok(flow.address(&known.provider, &endpoint, redirect_uri, max_age).into())
    }

    /// Exchanges what the browser brought back for the identity of whoever sits before it. The caller has checked that
    /// the browser is the one that the flow was begun in, and that `state` is the flow's.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub async fn identify(
        &self,
        id: &str,
        flow: &Flow,
        callback: &Callback,
        redirect_uri: &str,
        now: u64,
    ) -> Result<Identity, SignInError> {
        let known = self.known(id)?;
        match known.provider.dialect {
            Dialect::GitHub => known.by_github(flow, callback, redirect_uri).await,
            Dialect::OpenId { .. } => known.by_open_id(flow, callback, redirect_uri, now).await,
        }
    }

    /// Whether that provider can say when somebody proved who they are.
    pub fn tells_when(&self, id: &str) -> bool {
        self.provider(id).is_some_and(|provider| provider.dialect != Dialect::GitHub)
    }

    fn known(&self, id: &str) -> Result<Arc<Known>, SignInError> {
        let known =
            self.all().iter().map(|listed| self.of(listed)).find(|known| known.provider.id == id).cloned();
        known.ok_or(SignInError::UnknownProvider)
    }

    fn of<'a>(&self, listed: &'a Listed) -> &'a Arc<Known> {
        match self.asks_for {
            For::Users => &listed.by_users,
            For::Visitors => &listed.by_visitors,
        }
    }

    fn all(&self) -> RwLockReadGuard<'_, Vec<Listed>> {
        self.providers.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    async fn by_open_id(
        &self,
        flow: &Flow,
        callback: &Callback,
        redirect_uri: &str,
        now: u64,
    ) -> Result<Identity, SignInError> {
        let provider = &self.provider;
        let metadata = self.metadata(now).await?;
        let code = callback.code_from(&provider.issuer, metadata.names_itself)?;
        let tokens =
            self.exchange(&metadata.token, metadata.secret_in_body, flow, code, redirect_uri).await?;
        let token =
            tokens.id_token.ok_or_else(|| SignInError::answer("answer to the code", "it has no ID token"))?;
        let claims = self.verify(&metadata, &token, now).await?;
        claims.check(provider, &flow.nonce, now)?;
        if claims.person.email.is_some() {
            return claims.identity(provider, &claims.person, now);
        }
        // Some issuers tell the address only when asked.
        let person = match (&metadata.userinfo, &tokens.access_token) {
            (Some(url), Some(token)) => self.person(url, token, claims.subject()).await?,
            _ => Person::default(),
        };
        claims.identity(provider, &person, now)
    }

    async fn by_github(
        &self,
        flow: &Flow,
        callback: &Callback,
        redirect_uri: &str,
    ) -> Result<Identity, SignInError> {
        let provider = &self.provider;
        let endpoints = github::Endpoints::of(&provider.issuer)?;
        let code = callback.code_from(&provider.issuer, false)?;
        let tokens = self.exchange(&endpoints.token, true, flow, code, redirect_uri).await?;
        let token = tokens
            .access_token
            .ok_or_else(|| SignInError::answer("answer to the code", "it has no access token"))?;
        let user = self.http.get("user", &endpoints.user, Some(&token)).await?;
        let subject = github::subject(&user.body)?;
        let emails = self.http.get("addresses", &endpoints.emails, Some(&token)).await?;
        github::person(&emails.body)?.identity(provider, subject)
    }

    async fn exchange(
        &self,
        endpoint: &Url,
        secret_in_body: bool,
        flow: &Flow,
        code: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, SignInError> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", flow.verifier.as_str()),
        ];
        let authorization = if secret_in_body {
            form.extend([
                ("client_id", self.provider.client_id.as_str()),
                ("client_secret", self.provider.client_secret.as_str()),
            ]);
            None
        } else {
            Some(basic(&self.provider))
        };
        let answer = self.http.post("answer to the code", endpoint, authorization, &form).await?;
        Tokens::read(&answer)
    }

    /// What the userinfo endpoint says of that very subject.
    async fn person(&self, url: &Url, token: &str, subject: &str) -> Result<Person, SignInError> {
        #[derive(serde::Deserialize)]
        struct Info {
            sub: String,
            #[serde(flatten)]
            person: Person,
        }
        const WHAT: &str = "description of the person";
        let answer = self.http.get(WHAT, url, Some(token)).await?;
        let info: Info = serde_json::from_slice(&answer.body)
            .map_err(|error| SignInError::answer(WHAT, error.to_string()))?;
        match info.sub == subject {
            true => Ok(info.person),
            false => Err(SignInError::answer(WHAT, "it is about somebody else")),
        }
    }

    async fn verify(&self, metadata: &Metadata, token: &str, now: u64) -> Result<Claims, SignInError> {
        match self.keys(metadata, now, KEPT).await?.verify(token) {
            // The issuer may have changed its keys since.
            Err(TokenError::UnknownKey) => Ok(self.keys(metadata, now, ASK_AGAIN).await?.verify(token)?),
            other => Ok(other?),
        }
    }

    async fn metadata(&self, now: u64) -> Result<Metadata, SignInError> {
        let mut memory = self.memory.lock().await;
        if let Some(metadata) = Dated::within(memory.metadata.as_ref(), now, KEPT) {
            return Ok(metadata);
        }
        let bridged = Dated::within(memory.metadata.as_ref(), now, BRIDGED);
        if let Some(Silence { what, source }) = Dated::within(memory.silent.as_ref(), now, SILENT) {
            return bridged.ok_or(SignInError::Unreachable { what, source });
        }
        match self.asked_for_metadata().await {
            Ok(it) => {
                memory.metadata = Some(Dated { of: now, it: it.clone() });
                Ok(it)
            }
            Err(error) => {
                if let SignInError::Unreachable { what, source } = &error {
                    let it = Silence { what, source: Arc::clone(source) };
                    memory.silent = Some(Dated { of: now, it });
                }
                bridged.ok_or(error)
            }
        }
    }

    async fn asked_for_metadata(&self) -> Result<Metadata, SignInError> {
        let issuer = &self.provider.issuer;
        let url = Url::parse(&discovery::address(issuer))
            .map_err(|error| SignInError::answer("address", error.to_string()))?;
        let answer = self.http.get("description of itself", &url, None).await?;
        Metadata::read(&answer.body, issuer)
    }

    async fn keys(&self, metadata: &Metadata, now: u64, kept: u64) -> Result<Keys, SignInError> {
        let mut memory = self.memory.lock().await;
        if let Some(keys) = Dated::within(memory.keys.as_ref(), now, kept) {
            return Ok(keys);
        }
        let answer = self.http.get("key set", &metadata.keys, None).await?;
        let it = Keys::read(&answer.body)?;
        memory.keys = Some(Dated { of: now, it: it.clone() });
        Ok(it)
    }
}

/// The client's proof of itself in a header (RFC 6749, section 2.3.1).
fn basic(provider: &Provider) -> Zeroizing<String> {
    let coded =
        |text: &str| Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>());
    let pair = Zeroizing::new(format!("{}:{}", *coded(&provider.client_id), *coded(&provider.client_secret)));
    Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::provider;

    #[test]
    fn what_was_learned_is_kept_for_a_while() {
        let known = Dated { of: 100, it: 7 };
        assert_eq!(Dated::within(Some(&known), 100, 30), Some(7));
        assert_eq!(Dated::within(Some(&known), 129, 30), Some(7));
        assert_eq!(Dated::within(Some(&known), 130, 30), None);
        assert_eq!(Dated::within(Some(&known), 99, 30), None);
    }

    #[tokio::test]
    async fn an_issuer_that_is_silent_is_left_alone_for_a_moment() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, mut asked) = tokio::sync::mpsc::channel(64);
        let mut listening = tokio::task::JoinSet::new();
        listening.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
                heard.send(()).await.unwrap();
            }
        });
        let mut silent = provider("co", &[]);
        silent.issuer = format!("https://{address}");
        let client = Client::new(vec![silent]).unwrap();
        let flow = Flow::from_entropy(&[1; 96]);
        let mut count = async |now: u64| {
            let refused = client.address("co", &flow, "https://us.example/back", None, now).await;
            assert!(matches!(refused, Err(SignInError::Unreachable { .. })), "{refused:?}");
            std::iter::from_fn(|| asked.try_recv().ok()).count()
        };
        assert!(count(100).await > 0);
        assert_eq!([count(100).await, count(104).await], [0, 0], "nobody knocks again");
        assert!(count(105).await > 0);
    }

    #[tokio::test]
    async fn who_waits_for_one_provider_takes_no_place_at_another() {
        let of_github = |id: &str, address: std::net::SocketAddr| {
            let mut provider = provider("github", &[]);
            (provider.id, provider.issuer) = (id.to_owned(), format!("https://{address}"));
            provider
        };
        // It takes connections and says nothing.
        let slow = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [&slow, &gone].map(|listener| listener.local_addr().unwrap());
        drop(gone);
        let client = Client::new(vec![of_github("slow", addresses[0]), of_github("gone", addresses[1])]);
        let client = Arc::new(client.unwrap());
        let ask = |id: &'static str| {
            let client = Arc::clone(&client);
            async move {
                let flow = Flow::from_entropy(&[1; 96]);
                let code = Some(Zeroizing::new("code".to_owned()));
                let callback = Callback { code, ..Callback::default() };
                client.identify(id, &flow, &callback, "https://us.example/back", 100).await.unwrap_err()
            }
        };
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..200 {
            asking.spawn(ask("slow"));
        }
        // Those for whom there is no place are told at once.
        let first = asking.join_next().await.unwrap().unwrap();
        assert!(matches!(first, SignInError::Busy), "{first}");
        let other = ask("gone").await;
        assert!(matches!(other, SignInError::Unreachable { .. }), "{other}");
    }

    #[tokio::test]
    async fn a_flood_of_visitors_takes_no_place_of_who_signs_in_to_the_dashboard() {
        // It takes connections and says nothing.
        let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut provider = provider("github", &[]);
        provider.issuer = format!("https://{}", slow.local_addr().unwrap());
        let users = Client::new(vec![provider]).unwrap();
        let visitors = Arc::new(users.for_visitors());
        async fn ask(client: &Client) -> SignInError {
            let flow = Flow::from_entropy(&[1; 96]);
            let code = Some(Zeroizing::new("code".to_owned()));
            let callback = Callback { code, ..Callback::default() };
            client.identify("github", &flow, &callback, "https://us.example/back", 100).await.unwrap_err()
        }
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let visitors = Arc::clone(&visitors);
            asking.spawn(async move { ask(&visitors).await });
        }
        let first = asking.join_next().await.unwrap().unwrap();
        assert!(matches!(first, SignInError::Busy), "{first}");
        let mut heard = Vec::new();
        for _ in 0..8 {
            heard.push(slow.accept().await.unwrap());
        }
        tokio::select! {
            biased;
            refused = ask(&users) => panic!("{refused}"),
            asked = slow.accept() => heard.push(asked.unwrap()),
        }
        users.replace(Client::default());
        assert!(visitors.is_empty(), "who vouches is one matter");
    }

    #[test]
    fn no_two_providers_have_one_id() {
        let twice = vec![provider("co", &[]), provider("google", &[]), provider("co", &[])];
        assert_eq!(Client::new(twice).unwrap_err(), SettingsError::Twice("co".to_owned()));
    }

    #[test]
    fn a_secret_with_a_colon_stays_one() {
        let mut provider = provider("co", &[]);
        provider.client_secret = Zeroizing::new("a:b c+%".to_owned());
        let expected = format!("Basic {}", BASE64.encode(b"client:a%3Ab+c%2B%25"));
        assert_eq!(*basic(&provider), expected);
    }
}
