//! One login on one node: opening it, asking it, and saying precisely how that failed. What is asked is next door.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lifeboat_engine::clock::Clock;
use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::secret::Secret;
use lifeboat_engine::{ReadContext, StepContext};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tls;
use crate::resources::database::{Database, Login, Node, Tls};

/// Longest name of a session that PostgreSQL keeps, in bytes.
const APPLICATION_NAME_BYTES_MAX: usize = 63;
/// How long unacknowledged bytes may be resent before the kernel gives a connection up: a request must not arrive minutes after
/// its sender has gone on.
const RESEND_MS_MAX: u32 = 10_000;

/// How a node did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Nobody listens: the machine answered, PostgreSQL did not.
    #[error("{address} refuses connections: nothing listens there")]
    Refused {
        /// Host and port.
        address: String,
    },
    /// No answer in time, no route, no such host.
    #[error("{address} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What was tried.
        why: String,
    },
    /// The server answered the login with no.
    #[error("{address} refuses the login of {user}: {message} ({code})")]
    Rejected {
        /// Host and port.
        address: String,
        /// The role.
        user: String,
        /// SQLSTATE.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The connection broke, or no answer came in time, after something was sent.
    #[error("no answer of {address}: {why}")]
    Lost {
        /// Host and port.
        address: String,
        /// What happened.
        why: String,
    },
    /// The server answered a statement with an error.
    #[error("{address} answers: {message} ({code})")]
    Answered {
        /// Host and port.
        address: String,
        /// SQLSTATE.
        code: String,
        /// The server's words.
        message: String,
    },
    /// Something on our side: a secret, a certificate, an answer that is not what PostgreSQL says.
    #[error("{why}")]
    Ours {
        /// What.
        why: String,
    },
}

impl SessionError {
    /// The SQLSTATE, if the server said one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Rejected { code, .. } | Self::Answered { code, .. } => Some(code),
            Self::Refused { .. } | Self::Unreachable { .. } | Self::Lost { .. } | Self::Ours { .. } => None,
        }
    }

    /// `pg_hba.conf` says no: with a `reject` line or with no line at all.
    #[must_use]
    pub fn is_reject(&self) -> bool {
        matches!(self, Self::Rejected { code, .. } if code == "28000")
    }
}

/// Who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Probe,
    Act,
}

/// One login on one node.
#[derive(Debug)]
pub struct Session {
    client: Client,
    address: String,
    clock: Arc<dyn Clock>,
    patience: Duration,
    warnings: Arc<AtomicU32>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Dropping the socket at once ends the backend too: no statement of ours goes on without us.
        self.driver.abort();
    }
}

impl Session {
    /// A session of the probe role, which looks.
    ///
    /// # Errors
    /// How it failed.
    pub async fn reading(cx: &ReadContext, db: &Database, node: &Node) -> Result<Self, SessionError> {
        let name = application_name(cx);
        open(cx, db, node, &db.probe, Role::Probe, &name).await
    }

    /// A session of the acting role. Only a step that may act can have one.
    ///
    /// # Errors
    /// How it failed.
    pub async fn acting(cx: &StepContext, db: &Database, node: &Node) -> Result<Self, SessionError> {
        let name = application_name(cx);
        open(cx, db, node, &db.act, Role::Act, &name).await
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Warnings that the server sent so far. A commit that gave up waiting for its synchronous replica shows only here.
    #[must_use]
    pub fn warnings(&self) -> u32 {
        self.warnings.load(Ordering::SeqCst)
    }

    /// Sends statements without parameters and returns the rows of all of them, as text.
    ///
    /// # Errors
    /// How it failed. `Lost` means that it may have been done.
    pub async fn ask(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, SessionError> {
        let messages = self.in_time(self.client.simple_query(sql)).await?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                SimpleQueryMessage::CommandComplete(_) | SimpleQueryMessage::RowDescription(_) | _ => None,
            })
            .collect())
    }

    /// Like [`Session::ask`], for statements that answer exactly one row.
    ///
    /// # Errors
    /// How it failed, or that there was no row or more than one.
    pub async fn ask_one(&self, sql: &str) -> Result<SimpleQueryRow, SessionError> {
        let mut rows = self.ask(sql).await?;
        match (rows.pop(), rows.len()) {
            (Some(row), 0) => Ok(row),
            (_, others) => Err(SessionError::Ours { why: format!("{} answered {others} rows where one was expected", self.address) }),
        }
    }

    /// Like [`Session::ask`], for the first column of exactly one row; `None` is SQL's NULL.
    ///
    /// # Errors
    /// As [`Session::ask_one`].
    pub async fn ask_text(&self, sql: &str) -> Result<Option<String>, SessionError> {
        Ok(self.ask_one(sql).await?.get(0).map(str::to_owned))
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, SessionError> {
        match within(&*self.clock, self.patience, work).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => Err(self.failed(&error)),
            None => Err(SessionError::Lost { address: self.address.clone(), why: format!("silent for {} s", self.patience.as_secs_f32()) }),
        }
    }

    fn failed(&self, error: &tokio_postgres::Error) -> SessionError {
        let address = self.address.clone();
        match error.as_db_error() {
            // 57P01..03: the server is going away or is not there yet; the statement was not necessarily undone.
            Some(db) if db.code().code().starts_with("57P") => SessionError::Lost { address, why: db.message().to_owned() },
            Some(db) => SessionError::Answered { address, code: db.code().code().to_owned(), message: db.message().to_owned() },
            None => SessionError::Lost { address, why: told(error) },
        }
    }
}

/// Runs a future for at most so long on the injected clock.
pub(crate) async fn within<T>(clock: &dyn Clock, length: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock.sleep(length) => None,
    }
}

/// `lifeboat-<run>-<step>`, as `pg_stat_activity` shows it: the same for every attempt.
pub(crate) fn application_name(cx: &ReadContext) -> String {
    let full = format!("lifeboat-{}", cx.idempotency_key());
    // The end tells steps apart, so a name that is too long loses its beginning.
    let excess = full.len().saturating_sub(APPLICATION_NAME_BYTES_MAX);
    full.get(excess..).unwrap_or(&full).to_owned()
}

/// What a login needs beside the inventory's words.
pub(crate) struct Doorway<'a> {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) inventory: &'a Inventory,
    pub(crate) name: String,
    pub(crate) password: Secret,
    pub(crate) options: String,
    pub(crate) connect: Duration,
    pub(crate) statement: Duration,
}

async fn open(cx: &ReadContext, db: &Database, node: &Node, login: &Login, role: Role, name: &str) -> Result<Session, SessionError> {
    let password = cx.secret(&login.password).map_err(|error| SessionError::Ours { why: error.to_string() })?;
    let timeout_ms = db.statement_timeout.as_millis();
    let options = match role {
        // A probe's statements run in read-only transactions on top of its lack of rights.
        Role::Probe => format!("-c statement_timeout={timeout_ms} -c lock_timeout={timeout_ms} -c default_transaction_read_only=on"),
        Role::Act => format!("-c statement_timeout={timeout_ms} -c lock_timeout={timeout_ms}"),
    };
    let doorway = Doorway {
        clock: Arc::clone(&cx.clock),
        inventory: &cx.inventory,
        name: name.to_owned(),
        password,
        options,
        connect: db.connect_timeout.0.min(cx.time_left()),
        statement: db.statement_timeout.0,
    };
    doorway.enter(db, node, &login.user).await
}

impl Doorway<'_> {
    /// Opens a session directly on the node.
    pub(crate) async fn enter(self, db: &Database, node: &Node, user: &str) -> Result<Session, SessionError> {
        let address = format!("{}:{}", node.host, node.port);
        let clock = Arc::clone(&self.clock);
        let length = self.connect;
        let stream = tcp(&*clock, &node.host, node.port, length).await?;
        match within(&*clock, length, self.log_in(db, node, user, &address, stream)).await {
            Some(session) => session,
            None => {
                let why = format!("connected, but no login within {} s", length.as_secs_f32());
                Err(SessionError::Unreachable { address, why })
            }
        }
    }

    async fn log_in(self, db: &Database, node: &Node, user: &str, address: &str, stream: TcpStream) -> Result<Session, SessionError> {
        let mut config = Config::new();
        config.user(user).password(self.password.reveal()).dbname(&db.database);
        config.application_name(&self.name).options(&self.options);
        let ours = |why: String| SessionError::Ours { why };
        let tls = match db.tls {
            Tls::Disable => None,
            Tls::Require => Some(tls::encrypted().map_err(ours)?),
            Tls::VerifyFull => {
                let path = db.tls_ca.as_deref().ok_or_else(|| ours("verify-full needs tls_ca".into()))?;
                Some(tls::verified(&self.inventory.path(path)).map_err(ours)?)
            }
        };
        let warnings = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&warnings);
        let refused = |error: tokio_postgres::Error| rejected(address, user, &error);
        let (client, driver) = match tls {
            None => {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
                (client, tokio::spawn(drive(connection, counted)))
            }
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                let mut maker = MakeRustlsConnect::new(tls);
                let connector = <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::make_tls_connect(&mut maker, &node.host)
                    .map_err(|error| ours(format!("{:?} is no name for a certificate: {error}", node.host)))?;
                let (client, connection) = config.connect_raw(stream, connector).await.map_err(refused)?;
                (client, tokio::spawn(drive(connection, counted)))
            }
        };
        // The server cuts a statement off itself; what is awaited beyond that is the wire.
        let patience = self.statement + Duration::from_secs(1);
        Ok(Session { client, address: address.to_owned(), clock: self.clock, patience, warnings, driver })
    }
}

/// Drives the connection and counts what the server warns of.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, warnings: Arc<AtomicU32>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|task| connection.poll_message(task)).await {
        if matches!(&message, AsyncMessage::Notice(notice) if notice.severity() == "WARNING") {
            warnings.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Opens a TCP connection: the bare question whether anybody listens.
///
/// # Errors
/// `Refused` where nobody listens, `Unreachable` for everything else.
pub(crate) async fn tcp(clock: &dyn Clock, host: &str, port: u16, length: Duration) -> Result<TcpStream, SessionError> {
    let address = format!("{host}:{port}");
    let stream = match within(clock, length, TcpStream::connect((host, port))).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Err(SessionError::Refused { address }),
        Some(Err(error)) => return Err(SessionError::Unreachable { address, why: error.to_string() }),
        None => return Err(SessionError::Unreachable { address, why: format!("no connection within {} s", length.as_secs_f32()) }),
    };
    // A socket without these options works too, so a kernel that lacks one is no reason to fail.
    let _best_effort = (
        stream.set_nodelay(true),
        rustix::net::sockopt::set_socket_keepalive(&stream, true),
        rustix::net::sockopt::set_tcp_keepidle(&stream, Duration::from_secs(5)),
        rustix::net::sockopt::set_tcp_user_timeout(&stream, RESEND_MS_MAX),
    );
    Ok(stream)
}

fn rejected(address: &str, user: &str, error: &tokio_postgres::Error) -> SessionError {
    let address = address.to_owned();
    match error.as_db_error() {
        Some(db) if db.code().code().starts_with("57P") || db.code().code() == "53300" => {
            SessionError::Unreachable { address, why: db.message().to_owned() }
        }
        Some(db) => {
            SessionError::Rejected { address, user: user.to_owned(), code: db.code().code().to_owned(), message: db.message().to_owned() }
        }
        None => SessionError::Unreachable { address, why: told(error) },
    }
}

/// The driver's own words and its cause's, which hold no secret: it never prints its configuration.
fn told(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
