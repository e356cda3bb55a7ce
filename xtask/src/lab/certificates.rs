//! Certificates of a lab: an authority, a certificate for servers and one for a client, and those of a stranger whom nobody trusts. Made by
//! `openssl`, for two days. Who shows them to whom is the callers' business.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::trouble::{Doing, Result, Trouble};

/// The folder of a lab's certificates.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    pub(crate) fn within(lab: &Path) -> Self {
        Self { folder: lab.join("certificates") }
    }

    /// The authority that signed the members' and the client's.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The members' certificate and its key.
    #[must_use]
    pub fn member(&self) -> (PathBuf, PathBuf) {
        self.pair("member")
    }

    /// A client's certificate and its key; the name in it is `lifeboat`.
    #[must_use]
    pub fn client(&self) -> (PathBuf, PathBuf) {
        self.pair("lifeboat")
    }

    /// Another authority, which signed nothing that the members or the client show.
    #[must_use]
    pub fn strange_authority(&self) -> PathBuf {
        self.folder.join("strange.pem")
    }

    /// A certificate and its key, signed by the other authority.
    #[must_use]
    pub fn stranger(&self) -> (PathBuf, PathBuf) {
        self.pair("stranger")
    }

    fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")))
    }

    /// Makes all of them; the members' is for these addresses.
    pub(crate) fn make(&self, addresses: &[Ipv4Addr]) -> Result<()> {
        fs::create_dir_all(&self.folder).doing(|| format!("make {}", self.folder.display()))?;
        let names: Vec<String> = addresses.iter().map(|address| format!("IP:{address}")).collect();
        for authority in ["authority", "strange"] {
            let (certificate, key) = self.pair(authority);
            let mut request = request(&key, authority);
            request.args(["-x509", "-days", "2"]).arg("-out").arg(certificate);
            run(&mut request)?;
        }
        // A member asks itself over its own address, as a client.
        self.sign("member", "authority", &format!("subjectAltName={}\nextendedKeyUsage=serverAuth,clientAuth\n", names.join(",")))?;
        self.sign("lifeboat", "authority", "extendedKeyUsage=clientAuth\n")?;
        self.sign("stranger", "strange", "extendedKeyUsage=clientAuth\n")
    }

    fn sign(&self, name: &str, authority: &str, extensions: &str) -> Result<()> {
        let ((certificate, key), (authority, authority_key)) = (self.pair(name), self.pair(authority));
        let (wish, file) = (self.folder.join(format!("{name}.csr")), self.folder.join(format!("{name}.ext")));
        let text = format!("basicConstraints=critical,CA:FALSE\n{extensions}");
        fs::write(&file, text).doing(|| format!("write {}", file.display()))?;
        run(request(&key, name).arg("-out").arg(&wish))?;
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]).arg(wish).arg("-CA").arg(authority);
        run(sign.arg("-CAkey").arg(authority_key).arg("-extfile").arg(file).arg("-out").arg(certificate))
    }
}

fn request(key: &Path, name: &str) -> Command {
    let mut request = Command::new("openssl");
    request.args([
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        &format!("/CN={name}"),
        "-keyout",
    ]);
    request.arg(key);
    request
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().doing(|| "run openssl".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Trouble::new(format!("openssl cannot make a certificate: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
