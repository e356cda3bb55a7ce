//! The store that several machines share, as the inventory describes it: files and secrets are read here, and it is opened. Which store
//! a command opens is in `wiring`.

use std::sync::Arc;

use lifeboat_engine::inventory::{EtcdChoice, Inventory};
use lifeboat_store::{FolderLock, Store, StoreError};
#[cfg(feature = "etcd")]
use {
    lifeboat_engine::secret::{LocalSecrets, SecretRef, Secrets as _},
    lifeboat_store::{EtcdOptions, EtcdStore, EtcdTls, StaleReads},
    std::path::Path,
};

/// Whether the data folder of this machine is kept while the store is open.
#[derive(Debug)]
#[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "a build without a shared store keeps no folder for one"))]
pub(crate) enum Folder {
    /// For a process that drives runs: its control socket lies there.
    Kept(FolderLock),
    /// For one that only looks.
    Free,
}

/// Says that this build cannot.
#[cfg(not(feature = "etcd"))]
pub(crate) fn open(_: &Inventory, _: &EtcdChoice, _: Folder) -> Result<Arc<dyn Store>, StoreError> {
    Err(StoreError::Unsupported { what: "keep journals in etcd: this program was built without it" })
}

/// Connects. Blocks this thread, not the runtime.
#[cfg(feature = "etcd")]
pub(crate) fn open(inventory: &Inventory, etcd: &EtcdChoice, folder: Folder) -> Result<Arc<dyn Store>, StoreError> {
    let options = options(inventory, etcd)?;
    let store = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(EtcdStore::open(options)))?;
    Ok(Arc::new(match folder {
        Folder::Kept(lock) => store.with_folder(lock),
        Folder::Free => store,
    }))
}

#[cfg(feature = "etcd")]
fn options(inventory: &Inventory, etcd: &EtcdChoice) -> Result<EtcdOptions, StoreError> {
    let secrets = LocalSecrets::new(&inventory.folder);
    let secret = |reference: &SecretRef| {
        let place = || format!("the etcd cluster at {}", etcd.endpoints.join(", "));
        secrets.read(reference).map_err(|error| StoreError::Unreachable { place: place(), why: error.to_string() })
    };
    let file = |path: &Path| {
        let path = inventory.path(path);
        std::fs::read(&path).map_err(|source| StoreError::Io { action: format!("reading {}", path.display()), source })
    };
    let mut options = EtcdOptions::new(&etcd.endpoints);
    if let Some(prefix) = &etcd.prefix {
        options.prefix.clone_from(prefix);
    }
    if let Some(lease) = etcd.lease {
        options.lease = lease.0;
    }
    if let Some(ca) = &etcd.ca {
        let client_pem = match (&etcd.certificate, &etcd.key) {
            (Some(certificate), Some(key)) => Some((file(certificate)?, secret(key)?.reveal().as_bytes().to_vec())),
            (_, _) => None,
        };
        options.tls = Some(EtcdTls { ca_pem: file(ca)?, client_pem });
    }
    if let (Some(user), Some(password)) = (&etcd.user, &etcd.password) {
        options.user = Some((user.clone(), secret(password)?.reveal().to_owned()));
    }
    if let Some(why) = &etcd.accept_stale_reads {
        options.stale_reads = StaleReads::Accepted { why: why.clone() };
    }
    options.txn_ops_max = etcd.txn_ops_max.map_or(options.txn_ops_max, |most| most as usize);
    options.request_bytes_max = etcd.request_bytes_max.map_or(options.request_bytes_max, |most| most as usize);
    Ok(options)
}
