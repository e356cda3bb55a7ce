//! Encrypted connections to a real server: encrypted to anybody, verified to the named host, and refused where that cannot be had.

use std::process::Command;

use lifeboat_steps::measure_rpo::MeasureRpo;
use serde_json::json;
use xtask::lab::postgres::{PRIMARY, REGIONS};

use crate::rig::{Rig, WEST};

/// Gives every node a certificate of its own for its address, signed by itself; the file with all of them.
fn certify(rig: &Rig) {
    let mut authorities = String::new();
    for region in REGIONS {
        let node = rig.lab.node(region);
        let (key, certificate) = (node.data.join("server.key"), node.data.join("server.crt"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=lab"])
            .arg("-addext")
            .arg(format!("subjectAltName=IP:{}", node.address))
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let owner = std::fs::metadata(&node.data).unwrap();
        for file in [&key, &certificate] {
            use std::os::unix::fs::MetadataExt;
            std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        authorities.push_str(&std::fs::read_to_string(&certificate).unwrap());
        node.psql("postgres", "alter system set ssl = on").unwrap();
        node.psql("postgres", "select pg_reload_conf()").unwrap();
        node.wait_until("show ssl", "on").unwrap();
    }
    std::fs::write(rig.lab.folder().join("authorities.pem"), authorities).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_verified_as_the_inventory_says() {
    let mut rig = Rig::start();
    let with = json!({ "db": "orders-db", "from": PRIMARY, "to": WEST });
    rig.db()["tls"] = json!("require");
    let (why, _) = rig.refusal::<MeasureRpo>("loss", with.clone()).await;
    assert!(why.contains("does not support TLS") || why.contains("TLS"), "{why}");

    certify(&rig);
    for node in [PRIMARY, WEST] {
        // Without encryption there is no way in any more, so an answer proves it.
        let hba = rig.lab.node(node).data.join("pg_hba.conf");
        let text = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(&hba, format!("hostnossl all lifeboat_probe all reject\n{text}")).unwrap();
        rig.lab.node(node).psql("postgres", "select pg_reload_conf()").unwrap();
    }
    rig.run::<MeasureRpo>("loss", with.clone()).await;
    rig.db()["tls"] = json!("disable");
    let (why, _) = rig.refusal::<MeasureRpo>("loss", with.clone()).await;
    assert!(why.contains("no encryption"), "{why}");

    rig.db()["tls"] = json!("verify-full");
    rig.db()["tls_ca"] = json!("authorities.pem");
    rig.run::<MeasureRpo>("loss", with.clone()).await;
    // An authority that signed none of them.
    let others = std::fs::read_to_string(rig.lab.node("eu-west-1").data.join("server.crt")).unwrap();
    std::fs::write(rig.lab.folder().join("authorities.pem"), others).unwrap();
    let (why, _) = rig.refusal::<MeasureRpo>("loss", with.clone()).await;
    assert!(why.to_lowercase().contains("certificate"), "{why}");
    std::fs::write(rig.lab.folder().join("authorities.pem"), "no certificate").unwrap();
    let (why, _) = rig.refusal::<MeasureRpo>("loss", with).await;
    assert!(why.contains("there is no certificate in it"), "{why}");
}
