//! `verify` against real servers on loopback: web servers that flap, ports, DNS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lifeboat_engine::Measure;
use lifeboat_engine::step::{Step, StepError};
use lifeboat_steps::verify::{Verified, Verify};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use xtask::lab::dns::{KEY_NAME, RECORD, ZONE};
use xtask::lab::{Lab, Parts};

use crate::stage::{Stage, ready, refusal, step};

/// A web server that gives these answers in turn, then the last one for ever. One answer a connection.
struct Web {
    url: String,
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Web {
    async fn start(answers: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", answers).await
    }

    async fn start_at(address: &str, answers: &[&str]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut buffer = [0; 4096];
                let Ok(1..) = client.read(&mut buffer).await else { continue };
                let turn = counted.fetch_add(1, Ordering::SeqCst);
                let answer = &answers[turn.min(answers.len() - 1)];
                let _ = client.write_all(answer.as_bytes()).await;
            }
        });
        Self { url: format!("http://{address}/health"), port: address.port(), asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nready";
const BAD: &str = "HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn stage() -> Stage {
    Stage::new(json!({ "lifeboat": "v1" }), std::path::Path::new("/"))
}

async fn verify(stage: &Stage, with: Value) -> Result<Verified, StepError> {
    let step: Verify = step(with);
    let intent = ready(&step, stage).await;
    step.execute(&intent, &stage.act()).await
}

fn failure(ended: Result<Verified, StepError>) -> String {
    match ended {
        Err(StepError::NotDone { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_flapping_service_counts_only_from_its_unbroken_streak() {
    let web = Web::start(&[GOOD, GOOD, BAD, GOOD, BAD, GOOD, GOOD, GOOD]).await;
    let stage = stage();
    let began = stage.read().now();
    let seen = verify(&stage, json!({ "interval": "30ms", "checks": [{ "http": { "url": web.url, "consecutive": 3 } }] })).await.unwrap();
    let check = &seen.checks[0];
    assert_eq!((check.attempts, check.failures, check.consecutive, web.asked()), (8, 2, 3, 8));
    assert_eq!(seen.restored_at, check.first_success_at);
    // Five rounds lie before the streak, with a pause after each; clocks of one machine only go forward.
    assert!(seen.restored_at >= began + Duration::from_millis(5 * 30), "{} is before {began} and five pauses", seen.restored_at);
    assert!(seen.verified_at >= seen.restored_at + Duration::from_millis(2 * 30));
    let measures = Verify::measures(&seen);
    assert!(
        matches!(&measures[..], [Measure::ServiceRestored { at, .. }, Measure::Verified { at: end }] if *at == seen.restored_at && *end == seen.verified_at),
        "{measures:?}"
    );
}

#[tokio::test]
async fn all_checks_must_hold_at_the_same_time() {
    let (early, late) = (Web::start(&[GOOD, GOOD, BAD]).await, Web::start(&[BAD, BAD, GOOD]).await);
    let checks = json!([{ "http": { "url": early.url } }, { "http": { "url": late.url } }]);
    let why = failure(verify(&stage(), json!({ "within": "2s", "interval": "50ms", "checks": checks })).await);
    assert!(why.contains("status 503"), "{why}");
    assert!(early.asked() >= 3 && late.asked() >= 3, "each passed at some time, never both at once");
}

#[tokio::test]
async fn a_service_that_never_answers_is_never_green() {
    let web = Web::start(&[BAD]).await;
    let why = failure(verify(&stage(), json!({ "within": "300ms", "interval": "50ms", "checks": [{ "http": { "url": web.url } }] })).await);
    assert!(why.contains("not seen to work within 300ms") && why.contains("status 503 instead of 200"), "{why}");
    let why = refusal(&step::<Verify>(json!({ "checks": [] })), &stage()).await;
    assert!(why.contains("1 to 32 checks"), "{why}");
}

#[tokio::test]
async fn tolerances_of_a_web_answer_count() {
    let long = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", "x".repeat(2 * 1024 * 1024));
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let cases = [
        (GOOD, json!({ "contains": "ready" }), None),
        (GOOD, json!({ "contains": "not there" }), Some("does not contain")),
        (BAD, json!({ "status": [200, 503] }), None),
        (redirect, json!({}), Some("status 302 instead of 200")),
        (redirect, json!({ "status": 302 }), None),
        (GOOD, json!({ "latency_max": "1ms", "contains": "ready" }), Some("more than 1ms")),
        (long.as_str(), json!({ "contains": "y" }), Some("longer than 1048576 bytes")),
        ("no http at all", json!({}), Some("")),
    ];
    for (answer, extra, refused) in cases {
        let answer = if extra.get("latency_max").is_some() { "" } else { answer };
        let web = if answer.is_empty() { slow().await } else { Web::start(&[answer]).await };
        let mut http = extra.clone();
        http["url"] = json!(web.url);
        let ended = verify(&stage(), json!({ "within": "200ms", "interval": "150ms", "checks": [{ "http": http }] })).await;
        match refused {
            None => assert!(ended.is_ok(), "{extra}: {ended:?}"),
            Some(words) => {
                let why = failure(ended);
                assert!(why.contains(words), "{extra}: {why}");
            }
        }
    }
}

/// A server that needs longer than a millisecond, by working and not by a fixed sleep.
async fn slow() -> Web {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let began = lifeboat_engine::clock::SystemClock;
            let start = lifeboat_engine::Clock::instant(&began);
            let _ = client.read(&mut buffer).await;
            while lifeboat_engine::Clock::instant(&began).since(start) < Duration::from_millis(5) {
                tokio::task::yield_now().await;
            }
            let _ = client.write_all(GOOD.as_bytes()).await;
        }
    });
    Web { url: format!("http://{address}/"), port: address.port(), asked: Arc::default() }
}

#[tokio::test]
async fn a_hanging_service_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let check = json!({ "http": { "url": url, "timeout": "200ms" } });
    let why = failure(verify(&stage(), json!({ "within": "300ms", "checks": [check] })).await);
    assert!(why.contains("no answer in time"), "{why}");
}

#[tokio::test]
async fn addresses_that_hand_out_credentials_are_refused_before_anything_is_asked() {
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://0.0.0.0:8080/",
        "http://user:secret@orders.lab/",
        "ftp://orders.lab/",
        "file:///etc/passwd",
        "orders.lab",
        "gopher://127.0.0.1/",
    ] {
        let step: Verify = step(json!({ "checks": [{ "http": { "url": url } }] }));
        let why = refusal(&step, &stage()).await;
        assert!(why.contains("cannot be made"), "{url}: {why}");
    }
}

#[tokio::test]
async fn a_port_is_checked_until_somebody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let check = json!({ "tcp": { "host": "127.0.0.1", "port": port } });
    let why = failure(verify(&stage(), json!({ "within": "200ms", "interval": "50ms", "checks": [check] })).await);
    assert!(why.contains("refused"), "{why}");
    let _listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    verify(&stage(), json!({ "checks": [check] })).await.unwrap();
}

fn dns_stage(lab: &Lab) -> Stage {
    let (primary, secondary) = (lab.dns().primary.to_string(), lab.dns().secondary.to_string());
    let record = json!({
        "name": RECORD, "type": "A", "ttl": 1, "targets": { "old": ["127.77.0.1"], "new": ["127.0.0.1"] },
        "rfc2136": { "zone": ZONE, "primary": primary, "servers": [primary, secondary], "tsig": { "name": KEY_NAME, "secret": format!("file:{}", lab.secret("tsig").display()) } },
    });
    Stage::new(json!({ "lifeboat": "v1", "dns-records": { "orders-dns": record } }), lab.folder())
}

#[tokio::test]
async fn a_check_through_a_record_goes_where_clients_would_go() {
    let lab = Lab::start(Parts::Dns).unwrap();
    let stage = dns_stage(&lab);
    let web = Web::start(&[GOOD]).await;
    let checks = json!([
        { "http": { "url": format!("http://db.orders.lab:{}/", web.port), "through": "orders-dns", "timeout": "500ms" } },
        { "tcp": { "through": "orders-dns", "port": web.port, "timeout": "500ms" } },
        { "dns": { "record": "orders-dns", "to": "new" } },
    ]);
    let with = |within: &str| json!({ "within": within, "interval": "50ms", "checks": checks });
    let why = failure(verify(&stage, with("1s")).await);
    assert!(why.contains("not 127.0.0.1"), "{why}");
    assert_eq!(web.asked(), 0, "the record leads elsewhere, and this server was asked");
    lab.dns().update(&format!("update delete {RECORD} A\nupdate add {RECORD} 1 A 127.0.0.1")).unwrap();
    let seen = verify(&stage, with("30s")).await.unwrap();
    assert!(web.asked() > 0);
    assert_eq!(seen.checks[1].found, format!("127.0.0.1:{} accepts connections", web.port));
}

#[tokio::test]
async fn servers_that_disagree_prove_nothing() {
    let lab = Lab::start(Parts::Dns).unwrap();
    let stage = dns_stage(&lab);
    lab.dns().kill_server(1).unwrap();
    let check = json!({ "dns": { "record": "orders-dns", "to": "new" } });
    let why = failure(verify(&stage, json!({ "within": "300ms", "checks": [check] })).await);
    assert!(why.contains("does not answer"), "{why}");
}
