//! Steering through the control socket: freezes and pauses reach the store of the process that has the folder, with who asked.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use lifeboat_engine::clock::SystemClock;
use lifeboat_engine::inventory::{CommonFields, Inventory, ResourceEntry};
use lifeboat_engine::ports::{OwnerId, Ports};
use lifeboat_engine::registry::Registry;
use lifeboat_engine::secret::LocalSecrets;
use lifeboat_engine::steering::SteerError;
use lifeboat_server::control::{Client, Control, FreezeRequest, Listener, Listing, Reply, Request, this_user};
use lifeboat_store::MemoryStore;

fn ports(store: &MemoryStore) -> Ports {
    let mut inventory = Inventory::default();
    let entry = ResourceEntry { kind: "thing", common: CommonFields::default(), own: serde_json::Value::Null, nodes: Vec::new() };
    inventory.resources.insert("orders-db".into(), entry);
    Ports {
        store: Arc::new(store.clone()),
        registry: Arc::new(Registry::new()),
        inventory: Arc::new(inventory),
        secrets: Arc::new(LocalSecrets::new(std::path::Path::new("/nowhere"))),
        clock: Arc::new(SystemClock),
    }
}

fn wanted(resource: Option<&str>) -> FreezeRequest {
    FreezeRequest { resource: resource.map(str::to_owned), comment: "the replica looks wrong".into() }
}

async fn listing(client: &Client) -> Listing {
    let reply = client.ask(&Request::Runs).await.unwrap();
    let Reply::Runs(listing) = reply else { panic!("{reply:?}") };
    listing
}

#[tokio::test]
async fn a_freeze_asked_for_through_the_socket_is_durable_and_listed_with_who_and_why() {
    let (folder, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
    let control = Control::new(ports(&store), OwnerId("test".into()));
    let listener = Listener::open(folder.path(), control).unwrap();
    let client = Client::new(folder.path());
    for resource in [None, Some("orders-db")] {
        assert!(matches!(client.ask(&Request::Freeze(wanted(resource))).await.unwrap(), Reply::Done));
    }
    let freezes = listing(&client).await.freezes;
    assert_eq!(freezes.iter().map(|freeze| freeze.of()).collect::<Vec<_>>(), ["everything", "orders-db"]);
    assert_eq!((freezes[0].by.system_user.clone(), freezes[0].by.via.as_str()), (this_user(), "control socket"));
    assert_eq!(freezes[0].comment, "the replica looks wrong");
    // The process goes, the store stays: the next owner finds it.
    drop(listener);
    let _next = Listener::open(folder.path(), Control::new(ports(&store), OwnerId("next".into()))).unwrap();
    assert_eq!(listing(&client).await.freezes.len(), 2);
    assert!(matches!(client.ask(&Request::Unfreeze(wanted(None))).await.unwrap(), Reply::Done));
    assert_eq!(listing(&client).await.freezes.iter().map(|freeze| freeze.of()).collect::<Vec<_>>(), ["orders-db"]);
}

#[tokio::test]
async fn what_cannot_be_frozen_is_refused_with_words_that_help() {
    let (folder, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
    let _listener = Listener::open(folder.path(), Control::new(ports(&store), OwnerId("test".into()))).unwrap();
    let client = Client::new(folder.path());
    let refusal = async |request: Request| {
        let reply = client.ask(&request).await.unwrap();
        let Reply::Refused(error) = reply else { panic!("{reply:?}") };
        error.to_string()
    };
    let words = refusal(Request::Freeze(wanted(Some("orders-bd")))).await;
    assert_eq!(words, "the inventory has no resource orders-bd; did you mean orders-db?");
    assert_eq!(refusal(Request::Unfreeze(wanted(None))).await, "everything is not frozen");
    let silent = Request::Freeze(FreezeRequest { resource: None, comment: String::new() });
    assert!(refusal(silent).await.contains("--comment"));
    let nobody = lifeboat_engine::RunId::new("no-such-run").unwrap();
    let pause = lifeboat_engine::steering::Command::Pause { comment: "why".into() };
    let reply = client.ask(&Request::Steer { run: nobody, command: pause }).await.unwrap();
    assert!(matches!(reply, Reply::Failed(_) | Reply::Refused(SteerError::NotNow(_))), "{reply:?}");
}
