//! Members that are closed to strangers: certificates on both sides, names and passwords, rights to one prefix. Tokens that expire, users and
//! rights that change meanwhile. What is refused is said in words, and what was acknowledged stays.

use std::num::NonZeroU32;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, TlsOptions};
use lifeboat_store::{Commit, EtcdOptions, EtcdStore, EtcdTls, LogId, OwnerId, Record, Seq, Store as _, StoreError};
use xtask::lab::etcd::{Clients, EtcdCluster, EtcdSettings};

use crate::{nap, now, open, options, until};

const MANY: NonZeroU32 = NonZeroU32::new(100_000).unwrap();

const PASSWORD: &str = "correct-horse-battery";

fn log() -> LogId {
    LogId::new("run/a").unwrap()
}

fn at(place: u64) -> Commit {
    Commit { expect: vec![(log(), Seq(place))], append: vec![(log(), vec![Record(place.to_string().into_bytes())])] }
}

async fn texts(store: &EtcdStore) -> Vec<String> {
    let page = store.read(&log(), Seq(0), MANY).await.unwrap();
    page.records.into_iter().map(|(_, record)| String::from_utf8(record.0).unwrap()).collect()
}

fn numbers(end: u64) -> Vec<String> {
    (0..end).map(|n| n.to_string()).collect()
}

fn with_certificates() -> EtcdCluster {
    EtcdCluster::start_with(EtcdSettings { clients: Clients::WithCertificate, ..EtcdSettings::default() }).unwrap()
}

fn pem(path: std::path::PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// As the inventory's `ca`, `certificate` and `key` say.
fn tls(cluster: &EtcdCluster) -> EtcdTls {
    let (certificate, key) = cluster.certificates().client();
    EtcdTls { ca_pem: pem(cluster.certificates().authority()), client_pem: Some((pem(certificate), pem(key))) }
}

async fn refusal(options: &EtcdOptions) -> String {
    let began = now();
    let error = EtcdStore::open(options.clone()).await.map(|_| "it was let in").unwrap_err();
    assert!(now() - began < Duration::from_secs(30), "it took {:?} to say {error}", now() - began);
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        words = format!("{words}: {next}");
        cause = next.source();
    }
    assert!(!words.contains(PASSWORD), "the password is in the message: {words}");
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_the_members_and_this_program_prove_to_each_other_who_they_are() {
    let cluster = with_certificates();
    let good = EtcdOptions { tls: Some(tls(&cluster)), ..options(&cluster) };
    let store = open(&good).await;
    let mut changes = store.watch("run/").await.unwrap();
    store.commit(at(0)).await.unwrap();
    assert_eq!(changes.next().await, Some(()));
    let lease = store.lease(&log(), &OwnerId("one".into()), Duration::from_secs(15)).await.unwrap();
    store.renew(&lease).await.unwrap();
    assert_eq!(texts(&store).await, numbers(1));

    let (certificate, key) = cluster.certificates().stranger();
    let strange = Some((pem(certificate), pem(key)));
    let without = EtcdOptions { tls: Some(EtcdTls { client_pem: None, ..tls(&cluster) }), ..good.clone() };
    let of_another = EtcdOptions { tls: Some(EtcdTls { client_pem: strange, ..tls(&cluster) }), ..good.clone() };
    let ca_pem = pem(cluster.certificates().strange_authority());
    let unknown_members = EtcdOptions { tls: Some(EtcdTls { ca_pem, ..tls(&cluster) }), ..good.clone() };
    let in_clear = EtcdOptions {
        tls: None,
        endpoints: good.endpoints.iter().map(|endpoint| endpoint.replace("https", "http")).collect(),
        ..good.clone()
    };
    for (what, options, says) in [
        ("no certificate of ours", without, "certificate"),
        ("a certificate of another authority", of_another, "certificate"),
        ("members of another authority", unknown_members, "certificate"),
        ("no encryption", in_clear, "http://"),
    ] {
        let words = refusal(&options).await;
        println!("{what}: {words}");
        assert!(words.contains(says), "{what}: {words}");
    }
    store.commit(at(1)).await.unwrap();
    assert_eq!(texts(&store).await, numbers(2));
}

/// Whoever keeps the cluster: gives this store a user with rights to its own keys alone, and then demands names of everybody.
async fn close(cluster: &EtcdCluster, prefix: &str) -> Client {
    let connect = |with: ConnectOptions| Client::connect(cluster.endpoints(), Some(with));
    let keeper = connect(ConnectOptions::new()).await.unwrap();
    let mut auth = keeper.auth_client();
    auth.role_add("root").await.unwrap();
    auth.user_add("root", "root", None).await.unwrap();
    auth.user_grant_role("root", "root").await.unwrap();
    auth.role_add("lifeboat").await.unwrap();
    grant(&mut auth, prefix).await;
    auth.user_add("lifeboat", PASSWORD, None).await.unwrap();
    auth.user_grant_role("lifeboat", "lifeboat").await.unwrap();
    auth.auth_enable().await.unwrap();
    connect(ConnectOptions::new().with_user("root", "root").with_auto_token_refresh(true)).await.unwrap()
}

async fn grant(auth: &mut etcd_client::AuthClient, prefix: &str) {
    auth.role_grant_permission("lifeboat", Permission::read_write(prefix).with_prefix()).await.unwrap();
}

fn as_user(cluster: &EtcdCluster, prefix: &str, password: &str) -> EtcdOptions {
    EtcdOptions { prefix: prefix.into(), user: Some(("lifeboat".into(), password.into())), ..options(cluster) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_a_user_with_rights_to_one_prefix_keeps_journals_there_and_nowhere_else() {
    let cluster = EtcdCluster::start().unwrap();
    let keeper = close(&cluster, "/ours/").await;
    let store = open(&as_user(&cluster, "/ours/", PASSWORD)).await;
    let mut changes = store.watch("run/").await.unwrap();
    store.commit(at(0)).await.unwrap();
    assert_eq!(changes.next().await, Some(()));
    let lease = store.lease(&log(), &OwnerId("one".into()), Duration::from_secs(15)).await.unwrap();
    store.renew(&lease).await.unwrap();
    let digest = store.keep(b"large").await.unwrap();
    assert_eq!(store.kept(&digest).await.unwrap(), b"large");
    store.release(lease).await.unwrap();

    for (what, options, says) in [
        ("a wrong password", as_user(&cluster, "/ours/", "another"), "authentication failed"),
        ("keys of somebody else", as_user(&cluster, "/theirs/", PASSWORD), "permission denied"),
        ("no name", EtcdOptions { user: None, ..as_user(&cluster, "/ours/", "") }, "user name is empty"),
    ] {
        let words = refusal(&options).await;
        println!("{what}: {words}");
        assert!(words.contains(says), "{what}: {words}");
    }

    // Rights that are taken away are missed at the next commit, which changes nothing; given back, it goes on.
    let mut auth = keeper.auth_client();
    auth.role_revoke_permission("lifeboat", "/ours/", Some(etcd_client::RoleRevokePermissionOptions::new().with_prefix())).await.unwrap();
    let refused = store.commit(at(1)).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unreachable { why, .. } if why.contains("permission denied")), "{refused:?}");
    grant(&mut auth, "/ours/").await;
    store.commit(at(1)).await.unwrap();
    assert_eq!(texts(&store).await, numbers(2));
}

/// Tokens that live for a second: each pause outlives one. Then the keeper adds users, which makes every token given out before one of the past.
async fn goes_on_with_old_tokens(cluster: &EtcdCluster) {
    let keeper = close(cluster, "/ours/").await;
    let (store, other) = (open(&as_user(cluster, "/ours/", PASSWORD)).await, open(&as_user(cluster, "/ours/", PASSWORD)).await);
    let mut changes = store.watch("run/").await.unwrap();
    let owner = OwnerId("one".into());
    let lease = store.lease(&log(), &owner, Duration::from_secs(30)).await.unwrap();
    let mut place = 0;
    for round in 0..3 {
        nap(Duration::from_millis(2500)).await;
        for _ in 0..3 {
            // Whoever writes is another each time; both have tokens of before.
            let writer = if place % 2 == 0 { &other } else { &store };
            writer.commit(at(place)).await.unwrap();
            place += 1;
        }
        assert_eq!(changes.next().await, Some(()), "round {round}: the watcher has slept through a commit");
        store.renew(&lease).await.unwrap();
        keeper.auth_client().user_add(format!("somebody-{round}"), "else", None).await.unwrap();
        store.commit(at(place)).await.unwrap();
        place += 1;
        other.commit(at(place)).await.unwrap();
        place += 1;
        assert_eq!(texts(&store).await, numbers(place));
    }
    // A watch that is begun with a token of the past wakes too.
    nap(Duration::from_millis(2500)).await;
    let mut late = other.watch("run/").await.unwrap();
    store.commit(at(place)).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(30), late.next()).await;
    assert_eq!(woken, Ok(Some(())));
    // A password that was changed is not the one of the inventory: that is said, and nothing is lost.
    keeper.auth_client().user_change_password("lifeboat", "another").await.unwrap();
    nap(Duration::from_millis(2500)).await;
    let refused = until("the old password is refused", async || store.commit(at(place + 1)).await.err()).await;
    assert!(refused.to_string().contains("authentication failed"), "{refused}");
    let store = open(&as_user(cluster, "/ours/", "another")).await;
    assert_eq!(texts(&store).await, numbers(place + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_simple_tokens_that_expired_are_renewed_and_nothing_is_lost() {
    let arguments = vec!["--auth-token-ttl=1".into()];
    goes_on_with_old_tokens(&EtcdCluster::start_with(EtcdSettings { arguments, ..EtcdSettings::default() }).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_signed_tokens_that_expired_or_are_of_an_older_list_of_users_are_renewed_and_nothing_is_lost() {
    let keys = tempfile::Builder::new().prefix("lifeboat-jwt-").tempdir().unwrap();
    let (private, public) = (keys.path().join("key.pem"), keys.path().join("public.pem"));
    let run = |command: &mut std::process::Command| assert!(command.output().unwrap().status.success(), "{command:?}");
    run(std::process::Command::new("openssl").args(["genrsa", "-traditional", "-out"]).arg(&private).arg("2048"));
    run(std::process::Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(&private).arg("-out").arg(&public));
    use std::os::unix::fs::PermissionsExt as _;
    // The members run as another user. The key is of this test alone.
    for path in [keys.path(), &private, &public] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let token = format!("jwt,pub-key={},priv-key={},sign-method=RS256,ttl=1s", public.display(), private.display());
    let arguments = vec!["--auth-token".into(), token];
    goes_on_with_old_tokens(&EtcdCluster::start_with(EtcdSettings { arguments, ..EtcdSettings::default() }).unwrap()).await;
}

/// Certificates and a password at once, as an inventory may have both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_certificates_and_a_password_go_together() {
    let cluster = with_certificates();
    let (certificate, key) = cluster.certificates().client();
    let ca = Certificate::from_pem(pem(cluster.certificates().authority()));
    let secure = TlsOptions::new().ca_certificate(ca).identity(Identity::from_pem(pem(certificate), pem(key)));
    let keeper = Client::connect(cluster.endpoints(), Some(ConnectOptions::new().with_tls(secure))).await.unwrap();
    let mut auth = keeper.auth_client();
    for name in ["root", "lifeboat"] {
        auth.role_add(name).await.unwrap();
        auth.user_add(name, if name == "root" { "root" } else { PASSWORD }, None).await.unwrap();
        auth.user_grant_role(name, name).await.unwrap();
    }
    grant(&mut auth, "/ours/").await;
    auth.auth_enable().await.unwrap();
    let store = open(&EtcdOptions { tls: Some(tls(&cluster)), ..as_user(&cluster, "/ours/", PASSWORD) }).await;
    store.commit(at(0)).await.unwrap();
    assert_eq!(texts(&store).await, numbers(1));
}
