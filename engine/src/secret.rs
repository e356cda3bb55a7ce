//! Secrets: references that may be written down, and values that may not.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::mutants::{self, Mutant};

/// Where a secret is: `env:NAME` or `file:PATH` (relative paths count from the inventory's folder). Safe to journal and to print.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretRef(String);

impl SecretRef {
    /// Checks the form.
    ///
    /// # Errors
    /// How to write it.
    pub fn new(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env" | "file", rest)) if !rest.is_empty() => Ok(Self(text.to_owned())),
            Some(_) | None => {
                Err(format!("a secret is given as env:NAME or file:PATH, never by its value (got {} characters)", text.chars().count()))
            }
        }
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SecretRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.0
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl schemars::JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(env|file):.+$", "description": "Where the secret is: `env:NAME` or `file:PATH`, never its value" })
    }
}

/// A secret value. It has no `Display`, no `Serialize`, and its `Debug` prints `***`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the one call that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if mutants::is(Mutant::SecretShown) { &self.0 } else { "***" })
    }
}

/// A secret that cannot be had. The message names the reference, never a value.
#[derive(Debug, thiserror::Error)]
#[error("secret {reference} cannot be read: {why}")]
pub struct SecretError {
    /// Which.
    pub reference: SecretRef,
    /// Why.
    pub why: String,
}

/// Where secrets are looked up.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// Reads a secret anew each time, so that a rotated one is seen.
    ///
    /// # Errors
    /// Where it is missing, empty or unreadable.
    fn read(&self, reference: &SecretRef) -> Result<Secret, SecretError>;
}

/// Largest secret file, in bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Secrets of this process: environment variables, and files beside the inventory.
#[derive(Clone, Debug)]
pub struct LocalSecrets {
    folder: PathBuf,
}

impl LocalSecrets {
    /// `folder` is where relative `file:` paths begin.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }
}

impl Secrets for LocalSecrets {
    #[expect(clippy::disallowed_methods, reason = "the one door to secrets in the environment")]
    fn read(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let fail = |why: String| SecretError { reference: reference.clone(), why };
        let value = match reference.as_str().split_once(':') {
            Some(("env", name)) => std::env::var(name).map_err(|_| fail("the environment variable is not set, or is not text".into()))?,
            Some(("file", path)) => {
                let path = self.folder.join(path);
                let size = std::fs::metadata(&path).map_err(|e| fail(e.to_string()))?.len();
                if size > SECRET_BYTES_MAX {
                    return Err(fail(format!("the file has {size} bytes, more than {SECRET_BYTES_MAX}")));
                }
                std::fs::read_to_string(&path).map_err(|e| fail(e.to_string()))?
            }
            Some(_) | None => return Err(fail("it is neither env: nor file:".into())),
        };
        // A file written by an editor or by echo ends in a line end that is not part of the secret.
        let value = value.strip_suffix('\n').map(|v| v.strip_suffix('\r').unwrap_or(v)).unwrap_or(&value);
        if value.is_empty() {
            return Err(fail("it is empty".into()));
        }
        Ok(Secret::new(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_itself_where_it_is_printed() {
        let secret = Secret::new("correct-horse-battery".into());
        let around = (Some(&secret), vec![secret.clone()]);
        for text in [format!("{secret:?}"), format!("{secret:#?}"), format!("{around:?}")] {
            assert!(text.contains("***") && !text.contains("horse"), "{text}");
        }
        let refused = SecretRef::new("correct-horse-battery").unwrap_err();
        assert!(!refused.contains("horse"), "a value in place of a reference is not repeated: {refused}");
    }
}
