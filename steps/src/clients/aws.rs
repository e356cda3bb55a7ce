//! The door to Amazon Route 53: listing and changing records of one hosted zone, with its limits respected. What a change
//! should be, and what to make of a lost answer, is decided in `update_dns`.

use std::time::Duration;

use aws_sdk_route53::config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_route53::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ChangeStatus, ResourceRecordSet, RrType};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use lifeboat_engine::{ReadContext, StepContext};
use sha2::{Digest, Sha256};

use crate::resources::dns_record::Route53;

/// Longest wait for the answer to one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// First pause after Route 53 said "too many requests"; it doubles, with jitter. The limit of 5 requests a second is shared by
/// everybody who uses the account.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Most such pauses in one call.
const PAUSES_MAX: u32 = 12;

/// Most pages of records read for one name.
const PAGES_MAX: u32 = 20;

/// A call without a useful answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// Route 53 said no: nothing was changed.
    #[error("Route 53 refused: {message} ({code})")]
    Refused {
        /// `InvalidChangeBatch`, `AccessDenied`.
        code: String,
        /// Its words.
        message: String,
    },
    /// It was too busy until time ran out. Nothing was changed.
    #[error("Route 53 takes no more requests for now ({code}), tried {tries} times")]
    Busy {
        /// `Throttling`, `PriorRequestNotComplete`.
        code: String,
        /// How often.
        tries: u32,
    },
    /// No answer. A change may have been taken.
    #[error("Route 53 gave no answer: {why}")]
    Lost {
        /// What happened.
        why: String,
    },
    /// The call could not be made.
    #[error("Route 53 cannot be asked: {why}")]
    NotSent {
        /// Why.
        why: String,
    },
}

/// A submitted change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeId(pub String);

/// Whether all of Route 53's servers have a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Not yet.
    Pending,
    /// They have.
    InSync,
}

/// What a hosted zone says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedZone {
    /// Its name with a final dot.
    pub name: String,
    /// Its authoritative servers, by name; none for a private zone.
    pub name_servers: Vec<String>,
}

/// Looks at one hosted zone.
#[derive(Debug)]
pub struct ZoneReader {
    cx: ReadContext,
    client: aws_sdk_route53::Client,
    sts: aws_sdk_sts::Client,
    zone_id: String,
}

impl ZoneReader {
    /// A reader for this call. Credentials come from the inventory alone: nothing is taken from the environment.
    ///
    /// # Errors
    /// Where a credential cannot be had.
    pub fn new(cx: &ReadContext, hosted: &Route53) -> Result<Self, AwsError> {
        let secret = |reference| cx.secret(reference).map_err(|error| AwsError::NotSent { why: error.to_string() });
        let id = secret(&hosted.credentials.access_key_id)?;
        let key = secret(&hosted.credentials.secret_access_key)?;
        let token = hosted.credentials.session_token.as_ref().map(secret).transpose()?;
        let credentials = Credentials::new(id.reveal(), key.reveal(), token.map(|token| token.reveal().to_owned()), None, "inventory");
        // The SDK's own default would bring a second TLS stack, and its retries would hide lost answers from the step.
        let http = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL_TIMEOUT).connect_timeout(Duration::from_secs(3)).build();
        let mut config = aws_sdk_route53::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(hosted.region.clone()))
            .credentials_provider(credentials.clone())
            .http_client(http.clone())
            .timeout_config(timeouts.clone())
            .retry_config(RetryConfig::disabled());
        config.set_endpoint_url(hosted.endpoint.clone());
        let mut sts = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(hosted.region.clone()))
            .credentials_provider(credentials)
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled());
        sts.set_endpoint_url(hosted.endpoint.clone());
        Ok(Self {
            cx: cx.clone(),
            client: aws_sdk_route53::Client::from_conf(config.build()),
            sts: aws_sdk_sts::Client::from_conf(sts.build()),
            zone_id: hosted.zone_id.clone(),
        })
    }

    /// The account that the credentials belong to, from the region's own endpoint.
    ///
    /// # Errors
    /// Where it is not told.
    pub async fn account(&self) -> Result<String, AwsError> {
        let identity = self.patiently("account", || self.sts.get_caller_identity().send()).await?;
        identity.account.ok_or_else(|| AwsError::Lost { why: "the answer names no account".into() })
    }

    /// The hosted zone.
    ///
    /// # Errors
    /// Where it is not told.
    pub async fn zone(&self) -> Result<HostedZone, AwsError> {
        let answer = self.patiently("zone", || self.client.get_hosted_zone().id(&self.zone_id).send()).await?;
        let name = answer
            .hosted_zone()
            .map(|zone| zone.name().to_owned())
            .ok_or_else(|| AwsError::Lost { why: "the answer names no zone".into() })?;
        let name_servers = answer.delegation_set().map(|set| set.name_servers().to_vec()).unwrap_or_default();
        Ok(HostedZone { name, name_servers })
    }

    /// All records at a name, of every type.
    ///
    /// # Errors
    /// Where they are not told.
    pub async fn records(&self, name: &str) -> Result<Vec<ResourceRecordSet>, AwsError> {
        let mut found = Vec::new();
        let mut start: (String, Option<RrType>, Option<String>) = (name.to_owned(), None, None);
        for _ in 0..PAGES_MAX {
            let page = self
                .patiently("records", || {
                    self.client
                        .list_resource_record_sets()
                        .hosted_zone_id(&self.zone_id)
                        .start_record_name(&start.0)
                        .set_start_record_type(start.1.clone())
                        .set_start_record_identifier(start.2.clone())
                        .send()
                })
                .await?;
            let all = page.resource_record_sets.len();
            found.extend(page.resource_record_sets.into_iter().filter(|set| plain_name(set.name()) == name));
            match page.next_record_name {
                // The listing is in order of names: what comes after another name is none of ours.
                Some(next) if page.is_truncated && all > 0 && plain_name(&next) == name => {
                    start = (next, page.next_record_type, page.next_record_identifier)
                }
                Some(_) | None => return Ok(found),
            }
        }
        Err(AwsError::Lost { why: format!("{name} has more records than can be read") })
    }

    /// How far a change has come.
    ///
    /// # Errors
    /// Where it is not told.
    pub async fn spread(&self, change: &ChangeId) -> Result<Spread, AwsError> {
        let answer = self.patiently("spread", || self.client.get_change().id(&change.0).send()).await?;
        // An unknown status is "not yet", bounded by the step's deadline.
        let done = answer.change_info().is_some_and(|info| *info.status() == ChangeStatus::Insync);
        Ok(if done { Spread::InSync } else { Spread::Pending })
    }

    /// Calls until it is answered otherwise than "too busy", which says that nothing was done.
    async fn patiently<T, E, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T, AwsError>
    where
        F: Future<Output = Result<T, SdkError<E, aws_sdk_route53::config::http::HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut tries = 0;
        loop {
            let error = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => judged(&error),
            };
            let AwsError::Busy { code, .. } = error else {
                return Err(error);
            };
            tries += 1;
            let pause = pause(&format!("{}/{what}", self.cx.idempotency_key()), tries);
            if tries >= PAUSES_MAX || self.cx.time_left() <= pause + CALL_TIMEOUT.min(Duration::from_secs(1)) {
                return Err(AwsError::Busy { code, tries });
            }
            self.cx.sleep(pause).await;
        }
    }
}

/// Changes one hosted zone. Made from the right to act.
#[derive(Debug)]
pub struct ZoneWriter {
    reader: ZoneReader,
}

impl ZoneWriter {
    /// A writer for this call.
    ///
    /// # Errors
    /// Where a credential cannot be had.
    pub fn new(cx: &StepContext, hosted: &Route53) -> Result<Self, AwsError> {
        Ok(Self { reader: ZoneReader::new(cx, hosted)? })
    }

    /// The same zone for looking.
    #[must_use]
    pub fn reader(&self) -> &ZoneReader {
        &self.reader
    }

    /// Submits a batch, which is taken whole or not at all.
    ///
    /// # Errors
    /// Where it was not taken, or no answer came.
    pub async fn submit(&self, changes: Vec<(ChangeAction, ResourceRecordSet)>) -> Result<ChangeId, AwsError> {
        let not_sent = |why: String| AwsError::NotSent { why };
        let changes = changes
            .into_iter()
            .map(|(action, set)| Change::builder().action(action).resource_record_set(set).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| not_sent(error.to_string()))?;
        let comment = format!("lifeboat {}", self.reader.cx.idempotency_key());
        let batch =
            ChangeBatch::builder().comment(comment).set_changes(Some(changes)).build().map_err(|error| not_sent(error.to_string()))?;
        let answer = self
            .reader
            .patiently("change", || {
                self.reader.client.change_resource_record_sets().hosted_zone_id(&self.reader.zone_id).change_batch(batch.clone()).send()
            })
            .await?;
        answer
            .change_info()
            .map(|info| ChangeId(info.id().to_owned()))
            .ok_or_else(|| AwsError::Lost { why: "the answer has no change id".into() })
    }
}

/// Codes by which Route 53 says that it did nothing because it is busy.
const BUSY: [&str; 7] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "PriorRequestNotComplete",
];

fn judged<E>(error: &SdkError<E, aws_sdk_route53::config::http::HttpResponse>) -> AwsError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match error {
        SdkError::ConstructionFailure(_) => AwsError::NotSent { why: chain(error) },
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("no code").to_owned();
            let message = service.err().message().unwrap_or("without words").to_owned();
            if BUSY.contains(&code.as_str()) || service.raw().status().as_u16() == 429 {
                AwsError::Busy { code, tries: 0 }
            } else if service.raw().status().is_server_error() {
                AwsError::Lost { why: format!("{code}: {message}") }
            } else {
                AwsError::Refused { code, message }
            }
        }
        // Whether a request left cannot be told from the rest; new kinds of error are no better known.
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) | _ => AwsError::Lost { why: chain(error) },
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

/// Doubling pauses, shortened by up to half. The shortening follows from the name, so that a run can be replayed, while runs that
/// were throttled together come back apart.
fn pause(name: &str, tries: u32) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(PAUSE_MAX);
    let digest = Sha256::digest(format!("{name}/{tries}"));
    let share = f64::from(u16::from_be_bytes([digest[0], digest[1]])) / f64::from(u16::MAX);
    whole.mul_f64(1.0 - share / 2.0)
}

/// A name as Route 53 lists it, as plain lower-case text with a final dot: it escapes characters in octal (`\052` for `*`).
#[must_use]
pub fn plain_name(listed: &str) -> String {
    let mut plain = String::with_capacity(listed.len() + 1);
    let mut rest = listed;
    while let Some(first) = rest.chars().next() {
        let octal = rest.get(1..4).filter(|digits| first == '\\' && digits.bytes().all(|b| (b'0'..=b'7').contains(&b)));
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii_graphic) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &rest[4..];
            }
            None => {
                plain.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    plain.make_ascii_lowercase();
    if !plain.ends_with('.') {
        plain.push('.');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_route_53_escapes_them() {
        assert_eq!(plain_name("\\052.Orders.Lab."), "*.orders.lab.");
        assert_eq!(plain_name("db.orders.lab"), "db.orders.lab.");
        assert_eq!(plain_name("a\\999b."), "a\\999b.");
        assert_eq!(plain_name("\\"), "\\.");
    }

    #[test]
    fn pauses_grow_differ_by_run_and_can_be_replayed() {
        for tries in 1..40 {
            let one = pause("run-a", tries);
            assert_eq!(one, pause("run-a", tries));
            assert!(one <= PAUSE_MAX && one >= PAUSE_MIN / 2, "{one:?}");
        }
        assert_ne!(pause("run-a", 3), pause("run-b", 3));
        assert!(pause("run-a", 6) > pause("run-a", 1));
    }
}
