//! `nix-cache audit`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::args::RootArgs;
use crate::app::Failure;
use crate::app::audit::{AuditRequest, Files, carry_out, verdict, write_files};
use crate::app::print::{print, print_json};
use crate::app::settings::AuditArgs;
use crate::audit::output::{sarif, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AuditFormat {
    /// For people
    Text,
    /// For programs, and as the base of a later audit
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
}

#[derive(Debug, Args)]
pub(super) struct AuditCommand {
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    #[command(flatten)]
    audit: AuditArgs,
    /// A store path whose closure is audited as well; its licences are not known
    #[arg(long, value_name = "STORE-PATH", help_heading = "Packages")]
    store_path: Vec<String>,
    #[command(flatten)]
    root: RootArgs,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = AuditFormat::Text, help_heading = "Output")]
    format: AuditFormat,
    /// Also write the report as JSON to this file
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    json: Option<PathBuf>,
}

/// Audits and prints what was found.
pub(super) async fn audit(command: &AuditCommand) -> Result<(), Failure> {
    let request = AuditRequest {
        store_paths: command.store_path.clone(),
        store_root: command.root.store_root.clone(),
        ..command.audit.request(command.project.clone(), Path::new(""))
    };
    let audited = carry_out(&request).await?;
    match command.format {
        AuditFormat::Text => print(&text::render(&audited.report)),
        AuditFormat::Json => print_json(&audited.report)?,
        AuditFormat::Sarif => print_json(&sarif::sarif(&audited.report))?,
    }
    let (sarif, sbom) = (command.audit.sarif.as_deref(), command.audit.sbom.as_deref());
    write_files(&audited, &Files { sarif, json: command.json.as_deref(), sbom })?;
    verdict(&audited)
}
