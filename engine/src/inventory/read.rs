//! Text of `lifeboat.yaml` in, checked inventory out, every problem at its place.

use std::path::Path;

use super::{Inventory, ResourceKind, schema};
use lifeboat_runbooks::diagnostic::{Diagnostic, Severity, Source};
use lifeboat_runbooks::document::read_document;

/// Reads an inventory. `folder` is where its relative paths begin.
#[must_use]
pub fn read(source: &Source, folder: &Path, kinds: &[ResourceKind]) -> (Option<Inventory>, Vec<Diagnostic>) {
    let (document, mut diagnostics) = read_document(source, &schema(kinds));
    let Some(document) = document else { return (None, diagnostics) };
    if diagnostics.iter().any(|problem| problem.severity == Severity::Error) {
        return (None, diagnostics);
    }
    match Inventory::from_value(&document.value, folder, kinds) {
        Ok(inventory) => (Some(inventory), diagnostics),
        Err(problems) => {
            diagnostics.extend(problems.into_iter().map(|bad| Diagnostic {
                code: "LB090",
                severity: Severity::Error,
                message: bad.message,
                span: document.span(&bad.pointer),
                help: None,
                source: None,
            }));
            (None, diagnostics)
        }
    }
}
