//! Asks the real cache service everything that our client takes for granted, and shows what it answered. Nothing here is
//! clever: each request is made once. It takes a dozen entries of a few bytes, which the service forgets after a week.

mod blobs;
mod calls;
mod client;
mod table;

use super::{GithubConfig, scopes};
use crate::remote::RemoteError;

pub use table::{Row, Table, Verdict};

use client::Client;

/// Plays the contract with the service that `config` leads to. `nonce` makes the names of its entries new: what was ever
/// reserved stays taken.
///
/// # Errors
/// When this machine cannot do HTTPS at all. An answer that never comes is a row of the table.
pub async fn probe(config: &GithubConfig, nonce: &str) -> Result<Table, RemoteError> {
    let client = Client::new(config, nonce)?;
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
