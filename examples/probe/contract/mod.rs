//! What `nix-cache` takes for granted of the cache service, asked one request after the other, each sent once. It leaves a dozen
//! entries of a few bytes, which the service evicts after a week.
//!
//! 1. `calls`: requests that must be refused, the life of an entry from its reservation on, and what a lookup finds.
//! 2. `blobs`: an upload in one piece and one in blocks, downloads whole and in ranges.
//!
//! Every answer becomes a row of the `table`; `client` sends the requests.

mod blobs;
mod calls;
mod client;
mod table;

use nix_cache::remote::github::{GithubConfig, scopes};

use client::Client;
use table::Table;

/// Plays the contract with the service that the variables of `lookup` lead to. `nonce` makes the keys of its entries new: a key
/// that was ever reserved stays taken.
///
/// # Errors
/// A message when no service is named, or this machine cannot do HTTPS at all. An answer that never comes is a row of the table.
pub(crate) async fn probe(lookup: impl Fn(&str) -> Option<String>, nonce: &str) -> Result<Table, String> {
    let config = GithubConfig::from_env(lookup).map_err(|error| error.to_string())?;
    let client = Client::new(&config, nonce)?;
    let mut table = Table::default();
    let scopes: Vec<String> =
        scopes(&config.token).into_iter().map(|scope| format!("{}: {}", scope.scope, scope.permission)).collect();
    table.fact(
        "scopes in the token (1 read, 2 write)",
        &if scopes.is_empty() { "none".into() } else { scopes.join(", ") },
    );
    table.fact("`cache-mode` of the job", config.mode.word());
    calls::errors(&client, &mut table).await;
    calls::life_of_an_entry(&client, &mut table).await;
    calls::lookups(&client, &mut table).await;
    blobs::one_piece(&client, &mut table).await;
    blobs::blocks(&client, &mut table).await;
    Ok(table)
}
