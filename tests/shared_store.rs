//! The inventory's `store: { etcd: ... }` on clusters that are closed to strangers: with a certificate, with a name and a password.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::process::{Ended, binary, run};
use support::stage::{make, write};
use xtask::lab::etcd::{Clients, EtcdCluster, EtcdSettings};

const PASSWORD: &str = "correct-horse-battery";

struct Place {
    folder: PathBuf,
}

impl Place {
    fn new(cluster: &EtcdCluster) -> Self {
        let folder = cluster.folder().join("place");
        make(&folder);
        let place = Self { folder };
        let steps = "  - { id: a, type: wait, with: { for: 1ms } }\n  - { id: b, type: wait, needs: [a], with: { for: 1ms } }\n";
        write(&place.folder.join("runbook.yaml"), &format!("lifeboat: v1\nname: shared\nsteps:\n{steps}"));
        place
    }

    /// With these further lines under `etcd:`.
    fn inventory(&self, cluster: &EtcdCluster, more: &str) {
        let endpoints = cluster.endpoints().join(", ");
        let why = "accept_stale_reads: the tests of this project use the etcd that Debian has";
        let text = format!("lifeboat: v1\nstore:\n  etcd:\n    endpoints: [{endpoints}]\n    prefix: /ours/\n    {why}\n{more}");
        write(&self.folder.join("lifeboat.yaml"), &text);
    }

    fn lifeboat(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(binary());
        let ended =
            run(command.arg("--config").arg(self.folder.join("lifeboat.yaml")).arg("--data").arg(self.folder.join("data")).args(words));
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains(PASSWORD), "the password is printed:\n{}", ended.stderr);
        ended
    }

    fn keeps_a_run(&self) {
        let runbook = self.folder.join("runbook.yaml").display().to_string();
        let name = self.lifeboat(&["run", &runbook, "--no-wait"]).expect(0).run_name();
        let listed = self.lifeboat(&["runs", "--format", "json"]).expect(0).json();
        assert!(
            listed.as_array().is_some_and(|runs| runs.iter().any(|run| run["run"] == name.as_str() && run["outcome"] == "succeeded")),
            "{listed}"
        );
        self.lifeboat(&["report", &name]).expect(0);
    }
}

#[test]
fn as_root_a_run_is_kept_by_members_that_want_a_certificate() {
    let settings = EtcdSettings { clients: Clients::WithCertificate, ..EtcdSettings::default() };
    let cluster = EtcdCluster::start_with(settings).unwrap_or_else(|error| panic!("{error}"));
    let place = Place::new(&cluster);
    let (certificate, key) = cluster.certificates().client();
    let ca = cluster.certificates().authority();
    let shown = format!("    ca: {}\n    certificate: {}\n    key: file:{}\n", ca.display(), certificate.display(), key.display());
    place.inventory(&cluster, &shown);
    place.keeps_a_run();

    let (certificate, key) = cluster.certificates().stranger();
    for (more, says) in [
        (format!("    ca: {}\n", ca.display()), "certificate"),
        (format!("    ca: {}\n    certificate: {}\n    key: file:{}\n", ca.display(), certificate.display(), key.display()), "certificate"),
        (shown.replace(&ca.display().to_string(), &cluster.certificates().strange_authority().display().to_string()), "certificate"),
        (shown.replace("authority.pem", "not-there.pem"), "not-there.pem"),
        (shown.replace("lifeboat.key", "not-there.key"), "not-there.key"),
    ] {
        place.inventory(&cluster, &more);
        place.lifeboat(&["runs"]).expect(5).says(&["error: ", says]);
    }
}

#[test]
fn as_root_a_run_is_kept_by_members_that_want_a_password() {
    let cluster = EtcdCluster::start().unwrap_or_else(|error| panic!("{error}"));
    cluster.demand_password("lifeboat", PASSWORD, "/ours/").unwrap_or_else(|error| panic!("{error}"));
    let place = Place::new(&cluster);
    write(&place.folder.join("password"), &format!("{PASSWORD}\n"));
    write(&place.folder.join("wrong"), "another\n");
    place.inventory(&cluster, "    user: lifeboat\n    password: file:password\n");
    place.keeps_a_run();
    for (more, says) in [
        ("    user: lifeboat\n    password: file:wrong\n", "authentication failed"),
        ("    user: nobody\n    password: file:password\n", "authentication failed"),
        ("", "user name is empty"),
        ("    user: lifeboat\n    password: file:not-there\n", "file:not-there"),
    ] {
        place.inventory(&cluster, more);
        place.lifeboat(&["runs"]).expect(5).says(&["error: ", says]);
    }
}
