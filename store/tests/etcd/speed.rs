//! How fast it is beside etcd itself, in one run. For information: nothing here fails for being slow.

use std::num::NonZeroU32;

use etcd_client::Client;
use lifeboat_store::{Commit, LogId, Record, Seq, Store as _};
use xtask::lab::etcd::EtcdCluster;

use crate::{now, open, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_root_commits_are_counted_beside_bare_puts() {
    const COUNT: u64 = 200;
    let cluster = EtcdCluster::start().unwrap();
    let options = options(&cluster);
    let began = now();
    let store = open(&options).await;
    println!("opened in {:?}", now() - began);
    let bare = Client::connect(cluster.endpoints(), None).await.unwrap();
    let log = LogId::new("run/a").unwrap();
    let (mut ours, mut theirs) = (0.0, 0.0);
    for round in 0..3 {
        let began = now();
        for place in round * COUNT..(round + 1) * COUNT {
            let commit = Commit { expect: vec![(log.clone(), Seq(place))], append: vec![(log.clone(), vec![Record(vec![7; 300])])] };
            store.commit(commit).await.unwrap();
        }
        ours += (now() - began).as_secs_f64();
        let began = now();
        for place in 0..COUNT {
            bare.kv_client().put(format!("bare/{round}/{place}"), vec![7; 300], None).await.unwrap();
        }
        theirs += (now() - began).as_secs_f64();
    }
    let rate = |seconds: f64| 3.0 * COUNT as f64 / seconds;
    println!("{:.0} commits/s beside {:.0} bare puts/s: {:.2} of them", rate(ours), rate(theirs), rate(ours) / rate(theirs));
    let page = store.read(&log, Seq(0), NonZeroU32::MAX).await.unwrap();
    assert_eq!(page.records.len() as u64, 3 * COUNT);
}
