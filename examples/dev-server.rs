//! The fake cache service as a program, for a person who wants to point `act`, a runner or `nix-cache` at it.
//!
//! `cargo run --example dev-server -- --listen 127.0.0.1:0 --dir DIR [--link] [--blob-host HOST] [--fault NAME]... [--log FILE]`
//!
//! It prints the environment to export and runs until it is interrupted. Everything it stores is forgotten with it.

#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a program of its own, for developers")]

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use fake::{Fake, FakeConfig, Fault, LinkConfig, RestPermission};

#[allow(dead_code, unused_imports, reason = "the tests use more of it than this program")]
#[path = "../tests/integration/support/fake/mod.rs"]
mod fake;

/// A cache service like GitHub's on this machine.
#[derive(Parser)]
struct Arguments {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The folder for blobs; a temporary one by default.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Be as slow as the way from a hosted runner.
    #[arg(long)]
    link: bool,
    /// The host in signed addresses: GitHub's client has a way of its own to download from `*.blob.core.windows.net`.
    #[arg(long)]
    blob_host: Option<String>,
    /// A fault to start with: `NAME` or `NAME:field=value,...`, such as `error:on=create,status=503,times=2`.
    #[arg(long, value_parser = Fault::parse)]
    fault: Vec<Fault>,
    /// A file that gets one line of JSON for each request.
    #[arg(long)]
    log: Option<PathBuf>,
    /// The repository, as owner/name.
    #[arg(long, default_value = "octo/nix")]
    repository: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let fake = Fake::try_start(FakeConfig {
        listen: arguments.listen,
        dir: arguments.dir,
        link: arguments.link.then(LinkConfig::hosted_runner),
        blob_host: arguments.blob_host,
        log: arguments.log,
        repository: arguments.repository,
        ..FakeConfig::default()
    })?;
    for fault in arguments.fault {
        fake.fault(fault);
    }
    for (name, value) in fake.env().into_iter().chain(fake.rest_env(RestPermission::Write)) {
        println!("export {name}={value}");
    }
    eprintln!("The fake cache service listens on {}. Ctrl-C ends it.", fake.url());
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tokio::signal::ctrl_c())?;
    Ok(())
}
