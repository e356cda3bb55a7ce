//! The contract that every store keeps, all checks at once on one cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lifeboat_store::contract::{LeasesAfterReopening, Subject};
use lifeboat_store::{EtcdOptions, EtcdStore, StaleReads, Store, StoreError};
use xtask::lab::etcd::EtcdCluster;

use crate::{nap, options};

#[derive(Debug)]
struct OnCluster {
    options: EtcdOptions,
}

#[async_trait]
impl Subject for OnCluster {
    async fn open(&mut self) -> Arc<dyn Store> {
        Arc::new(EtcdStore::open(self.options.clone()).await.unwrap())
    }

    /// Leases of real servers end in real time.
    async fn advance(&mut self, by: Duration) {
        nap(by).await;
    }

    fn leases_after_reopening(&self) -> LeasesAfterReopening {
        LeasesAfterReopening::Hold
    }
}

#[test]
fn as_root_the_contract_holds_on_three_real_members() {
    let cluster = EtcdCluster::start().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broken = runtime.block_on(async {
        let checks = lifeboat_store::contract_suite!(together OnCluster { options: options(&cluster) });
        let mut broken = Vec::new();
        for (name, check) in checks {
            if let Err(error) = check.await {
                broken.push(format!("{name}: {error}"));
            }
        }
        broken
    });
    assert_eq!(broken, Vec::<String>::new());
    lifeboat_store::contract::random_histories_match_the_model_across_reopening(|| Box::new(OnCluster { options: options(&cluster) }));
}

#[tokio::test]
async fn as_root_a_server_whose_reads_may_be_stale_is_refused_unless_that_is_accepted() {
    let cluster = EtcdCluster::start().unwrap();
    let accepted = options(&cluster);
    let refused = EtcdStore::open(EtcdOptions { stale_reads: StaleReads::Refused, ..accepted.clone() }).await.unwrap_err();
    let StoreError::UnfitServer { member, version, .. } = &refused else { panic!("{refused:?}") };
    assert!(member.starts_with("http://10.77.") && version.starts_with("3."), "{refused}");
    assert!(refused.to_string().contains("20418"), "{refused}");
    let store = EtcdStore::open(accepted).await.unwrap();
    assert!(store.members().iter().all(|member| member.stale_reads && member.version.is_some()), "{:?}", store.members());
    let notices = store.notices();
    assert!(matches!(notices.as_slice(), [notice] if notice.contains("Accepted: tests only") && notice.contains("20418")), "{notices:?}");
}
