//! Sessions: which tokens are alive. A token is kept as its SHA-256 only.
//!
//! Beside each session's own record there is one list for each account, written in the same transaction, so that a
//! sign-in can bound its account's sessions without reading everybody's. A session that is renewed changes its own
//! record only: whoever is about to drop a session by the list looks at the record first.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Registry, decode, encode};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Account, Timestamp};
use crate::secret::{PasswordForm, Secret, random_text, sha256_hex};
use crate::store::{Expect, Record, RecordKind, Write};

/// How many live sessions one account may have; the one that ends first gives way to a new one.
const SESSIONS_PER_ACCOUNT: usize = 500;
/// How often a session is tried to be stored while others sign in to the same account.
const TRIES: usize = 64;
/// How often a session's renewal is written at most.
const RENEWAL: Duration = Duration::from_secs(60);
/// A token that somebody makes has at least so many bytes.
const SHORTEST_TOKEN: usize = 16;

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The account's name.
    pub account: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends, unless it is renewed.
    pub expires: Timestamp,
    /// Whether use renews it.
    #[serde(default)]
    pub renew: bool,
    /// How long it lives from its making or last renewal, in seconds.
    #[serde(default)]
    pub life: u64,
}

/// What a session's token looks like.
#[derive(Clone, Default)]
pub enum TokenForm {
    /// 22 random letters and digits.
    #[default]
    Random22,
    /// A random UUID as 32 lower-case hex digits.
    UuidSimple,
    /// What this makes of the account and the session, for dialects whose tokens say something. Two sign-ins at
    /// once must not get the same: put something random in, at least 128 bits of it, because that is what
    /// keeps the session safe. No token of fewer than 16 bytes is taken.
    Made(Arc<MakeToken>),
}

/// Makes a token.
pub type MakeToken = dyn Fn(&Account, &Session) -> Result<Secret> + Send + Sync;

impl fmt::Debug for TokenForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random22 => "Random22",
            Self::UuidSimple => "UuidSimple",
            Self::Made(_) => "Made",
        })
    }
}

impl TokenForm {
    fn token(&self, account: &Account, session: &Session) -> Result<Secret> {
        let token = match self {
            Self::Random22 => Secret::new(random_text(22)),
            Self::UuidSimple => Secret::new(Uuid::new_v4().simple().to_string()),
            Self::Made(make) => make(account, session)?,
        };
        if token.expose().len() < SHORTEST_TOKEN {
            return Err(Error::internal("a session's token is too short to be safe"));
        }
        Ok(token)
    }
}

/// How a dialect wants a session to be.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// What its token looks like.
    pub token: TokenForm,
    /// How long it lives.
    pub life: Duration,
    /// Whether each use lets it live that long again. Written at most once a minute, so that it may end up to a
    /// minute sooner after its last use.
    pub renew: bool,
}

impl From<Duration> for SessionOptions {
    fn from(life: Duration) -> Self {
        Self {
            token: TokenForm::default(),
            life,
            renew: false,
        }
    }
}

impl Registry {
    /// Signs in: checks what the client sent in `form` and opens a session as the options say (or with a plain
    /// token that lives for a `Duration`). Returns the account and the token, which is not kept.
    ///
    /// # Errors
    /// `Unauthenticated`, the same for an unknown name and a wrong password; those of the store.
    pub async fn sign_in(
        &self,
        name: &str,
        form: PasswordForm,
        sent: Secret,
        options: impl Into<SessionOptions>,
    ) -> Result<(Account, Secret, Session)> {
        let account = self.check_password(name, form, sent).await?;
        let (token, session) = self.begin_session(&account, &options.into()).await?;
        Ok((account, token, session))
    }

    /// Opens a session of an account that has proved itself. Returns its token, which is not kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn begin_session(
        &self,
        account: &Account,
        options: &SessionOptions,
    ) -> Result<(Secret, Session)> {
        let created = Timestamp::now();
        let session = Session {
            account: account.name.clone(),
            created,
            expires: later(created, options.life)?,
            renew: options.renew,
            life: options.life.as_secs(),
        };
        let token = self.store_session(account, &session, &options.token).await?;
        Ok((token, session))
    }

    /// Stores a session under a new token, and drops the account's stale ones and, if it has too many, oldest.
    async fn store_session(&self, account: &Account, session: &Session, form: &TokenForm) -> Result<Secret> {
        let list_key = list_key(&session.account);
        let mut last = None;
        for _ in 0..TRIES {
            let token = form.token(account, session)?;
            let key = sha256_hex(token.expose());
            let (mut listed, expect) = self.listed(&session.account).await?;
            let mut writes = self.make_room(&mut listed, session.created).await?;
            listed.push(Listed {
                key: key.clone(),
                expires: session.expires,
            });
            writes.push(Write {
                kind: RecordKind::Session,
                key,
                expect: Expect::Absent,
                value: Some(encode(session)?),
            });
            writes.push(Write {
                kind: RecordKind::Setting,
                key: list_key.clone(),
                expect,
                value: Some(encode(&listed)?),
            });
            match self.store.commit(writes).await {
                Ok(_) => return Ok(token),
                // Somebody else signed in to the same account at the same time.
                Err(error) if error.kind == ErrorKind::Conflict => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("a session was not tried to be stored")))
    }

    async fn listed(&self, account: &str) -> Result<(Vec<Listed>, Expect)> {
        let old = self.store.get(RecordKind::Setting, &list_key(account)).await?;
        let expect = old
            .as_ref()
            .map_or(Expect::Absent, |old| Expect::Version(old.version));
        Ok((old.as_ref().map(decode).transpose()?.unwrap_or_default(), expect))
    }

    /// Takes the sessions out of a list that have ended, and those that end first if there are too many.
    /// Returns their removals.
    async fn make_room(&self, listed: &mut Vec<Listed>, now: Timestamp) -> Result<Vec<Write>> {
        let mut removals = Vec::new();
        loop {
            listed.sort_by_key(|listed| listed.expires);
            let Some(first) = listed.first() else { break };
            if first.expires > now && listed.len() < SESSIONS_PER_ACCOUNT {
                break;
            }
            let record = self.store.get(RecordKind::Session, &first.key).await?;
            // What cannot be read is no session of this release, and nothing is known of it.
            let renewed = record.as_ref().and_then(|record| {
                let session = decode::<Session>(record).ok()?;
                (session.expires > first.expires).then_some(session.expires)
            });
            let first = listed.remove(0);
            if let Some(expires) = renewed {
                listed.push(Listed { expires, ..first });
            } else if let Some(record) = record {
                // Renewed in between it is not dropped: this transaction then fails and is made again.
                removals.push(removal(first.key, Expect::Version(record.version)));
            }
        }
        Ok(removals)
    }

    /// Ends the session of a token; false if there was none.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sign_out(&self, token: &str) -> Result<bool> {
        let key = sha256_hex(token);
        for _ in 0..TRIES {
            let Some(record) = self.store.get(RecordKind::Session, &key).await? else {
                return Ok(false);
            };
            let mut writes = vec![removal(key.clone(), Expect::Any)];
            if let Ok(session) = decode::<Session>(&record) {
                let (mut listed, expect) = self.listed(&session.account).await?;
                listed.retain(|listed| listed.key != key);
                writes.push(Write {
                    kind: RecordKind::Setting,
                    key: list_key(&session.account),
                    expect,
                    value: Some(encode(&listed)?),
                });
            }
            match self.store.commit(writes).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        // The list is not worth a session that lives on: what it names in vain is dropped in its time.
        self.store.commit(vec![removal(key, Expect::Any)]).await?;
        Ok(true)
    }

    /// Removes the sessions that have expired, of accounts, too, that nobody signs in to any more. Reads all
    /// sessions: for an hourly round, not for a request. Returns how many it removed.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn purge_sessions(&self) -> Result<usize> {
        let now = Timestamp::now();
        let mut stale = Vec::new();
        for record in self.store.load(RecordKind::Session).await? {
            // What cannot be read is no session of this release, and its expiry is not known.
            if decode::<Session>(&record).is_ok_and(|session| session.expires <= now) {
                stale.push(record.key);
            }
        }
        for batch in stale.chunks(256) {
            let removals = batch.iter().map(|key| removal(key.clone(), Expect::Any));
            self.store.commit(removals.collect()).await?;
        }
        Ok(stale.len())
    }

    /// The account behind a token.
    ///
    /// # Errors
    /// `Unauthenticated` for an unknown or stale token.
    pub async fn session(&self, token: &str) -> Result<Account> {
        self.open_session(token).await.map(|(account, _)| account)
    }

    /// The account behind a token, and the session itself for callers that remember it until it ends. Counts as
    /// a use: a session that is renewed by use lives on from here.
    ///
    /// # Errors
    /// `Unauthenticated` for an unknown or stale token.
    pub async fn open_session(&self, token: &str) -> Result<(Account, Session)> {
        let (session, record) = self.live_session(token).await?;
        let account = self.account(&session.account).await?.ok_or_else(stale)?;
        let life = Duration::from_secs(session.life);
        let session = if session.renew {
            self.renew(session, &record, life).await?
        } else {
            session
        };
        Ok((account, session))
    }

    /// As [`Registry::open_session`], but lets the session live for `life` from now, whatever was said when it
    /// was opened.
    ///
    /// # Errors
    /// `Unauthenticated` for an unknown or stale token.
    pub async fn renew_session(&self, token: &str, life: Duration) -> Result<(Account, Session)> {
        let (session, record) = self.live_session(token).await?;
        let account = self.account(&session.account).await?.ok_or_else(stale)?;
        Ok((account, self.renew(session, &record, life).await?))
    }

    async fn live_session(&self, token: &str) -> Result<(Session, Record)> {
        let found = self.store.get(RecordKind::Session, &sha256_hex(token)).await?;
        let record = found.ok_or_else(stale)?;
        let session: Session = decode(&record)?;
        if session.expires <= Timestamp::now() {
            return Err(stale());
        }
        Ok((session, record))
    }

    async fn renew(&self, session: Session, record: &Record, life: Duration) -> Result<Session> {
        let expires = later(Timestamp::now(), life)?;
        // A short life is renewed more often: a minute might be all of it.
        let step = RENEWAL.min(life / 10);
        if expires.duration_since(session.expires) < jiff::SignedDuration::try_from(step).unwrap_or_default()
        {
            return Ok(session);
        }
        let renewed = Session { expires, ..session };
        let write = Write {
            kind: RecordKind::Session,
            key: record.key.clone(),
            expect: Expect::Version(record.version),
            value: Some(encode(&renewed)?),
        };
        match self.store.commit(vec![write]).await {
            // Somebody else renewed or ended it at the same time: the next look says which.
            Ok(_) => Ok(renewed),
            Err(error) if error.kind == ErrorKind::Conflict => Ok(renewed),
            Err(error) => Err(error),
        }
    }
}

/// A session in its account's list.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    key: String,
    expires: Timestamp,
}

fn list_key(account: &str) -> String {
    format!("sessions:{account}")
}

fn later(from: Timestamp, life: Duration) -> Result<Timestamp> {
    from.checked_add(life)
        .map_err(|_| Error::internal("a session's life is beyond the calendar"))
}

fn removal(key: String, expect: Expect) -> Write {
    Write {
        kind: RecordKind::Session,
        key,
        expect,
        value: None,
    }
}

fn stale() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "the session is unknown or has expired, sign in again",
    )
}
