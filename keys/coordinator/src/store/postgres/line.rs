//! A connection that is made again when it is lost.

use std::time::{Duration, Instant};

use super::{PostgresUrl, Session};
use crate::store::StoreError;
use crate::store::sql;

/// The first pause after the server could not be reached, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Read,
    Write,
    /// Writes what coordinators tell each other, beside the writer.
    Aside,
}

impl Role {
    /// How its transactions begin. A writer waits for the head row first: one writes at a time, whichever coordinator it
    /// belongs to. The level is said, because a server may have another default, at which it would not see what was written
    /// while it waited; a server that was set to take no writes is not overruled.
    const fn begin(self) -> &'static str {
        match self {
            // Who reads waits for nobody but somebody who has a table to himself: others stand in the line behind.
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '1s'",
            Self::Write => {
                "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT one FROM head WHERE one = 1 FOR UPDATE"
            }
            Self::Aside => "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off",
        }
    }
}

/// A connection for one thread.
#[derive(Debug)]
pub(crate) struct Line {
    url: PostgresUrl,
    role: Role,
    session: Option<Session>,
    pause: Duration,
    /// Nobody tries before that time, so that callers are refused at once rather than each after a time-out.
    not_before: Option<(Instant, StoreError)>,
}

impl Line {
    pub(in crate::store) fn new(url: PostgresUrl, role: Role, session: Session) -> Self {
        Self { url, role, session: Some(session), pause: PAUSES[0], not_before: None }
    }

    /// Begins a transaction, connecting again if need be.
    pub(in crate::store) fn begin(&mut self) -> Result<sql::Session<'_>, StoreError> {
        let held = self.session.take().filter(|session| !session.is_lost());
        let began = held.and_then(|session| match session.control(self.role.begin()) {
            Ok(()) => Some(Ok(session)),
            // Nothing was asked of it yet, so that another connection is as good, and maybe to another server.
            Err(StoreError::Unreachable(_) | StoreError::ReadOnly) => None,
            Err(error) => {
                // The transaction may have begun.
                let _ = session.control("ROLLBACK");
                self.session = Some(session);
                Some(Err(error))
            }
        });
        let session = match began {
            Some(began) => began?,
            None => self.again()?,
        };
        Ok(sql::Session::Postgres(self.session.insert(session)))
    }

    fn again(&mut self) -> Result<Session, StoreError> {
        if let Some((until, why)) = &self.not_before
            && Instant::now() < *until
        {
            return Err(why.clone());
        }
        let began = Session::open(&self.url).and_then(|session| {
            if self.role == Role::Write {
                session.stay()?;
            }
            session.control(self.role.begin())?;
            Ok(session)
        });
        match &began {
            Ok(_) => {
                tracing::info!("connected to the database again");
                (self.pause, self.not_before) = (PAUSES[0], None);
            }
            Err(error) => {
                self.not_before = Some((Instant::now() + self.pause, error.clone()));
                self.pause = (self.pause * 2).min(PAUSES[1]);
            }
        }
        began
    }
}
