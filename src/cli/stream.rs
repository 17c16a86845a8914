//! `nix-cache stream`: the state of streamed layers, and commands for their server. Two more parts are the processes of the server.

use std::fmt::Write;

use super::args::{Format, StreamCommand, StreamPart};
use crate::app::Failure;
use crate::app::print::{print, print_json};
use crate::attach;
use crate::attach::stream::{Command, Status};
use crate::base::human;
use crate::cache;
use crate::store::StoreDirs;

/// Runs a part of the server, or gives it a command and prints its state.
pub(super) async fn stream(command: &StreamCommand) -> Result<(), Failure> {
    let order = match command.part {
        StreamPart::Guard => {
            let task = tokio::task::spawn_blocking(attach::stream::guard);
            return task.await.map_err(Failure::work)?.map_err(Failure::work);
        }
        StreamPart::Worker => return attach::stream::serve().await.map_err(Failure::work),
        StreamPart::Status => None,
        StreamPart::Finish => Some(Command::Finish),
        StreamPart::Abort => Some(Command::Abort),
    };
    let dirs = StoreDirs::new(command.root.store_root.as_deref());
    let task = tokio::task::spawn_blocking(move || cache::stream_status(&dirs, order));
    let status = task.await.map_err(Failure::work)?.map_err(Failure::work)?;
    match (command.output.format, &status) {
        (Format::Json, status) => print_json(status)?,
        (Format::Text, None) => print("No layers are streamed to this store.\n"),
        (Format::Text, Some(status)) => print(&describe(status)),
    }
    let is_done = |status: &Status| match command.part {
        StreamPart::Finish => status.is_finished,
        StreamPart::Abort => status.is_aborted,
        _ => true,
    };
    if status.as_ref().is_none_or(is_done) {
        return Ok(());
    }
    Err(Failure::work(
        "The server of the stream did not take the command. Run `nix-cache stream status` and try again.",
    ))
}

fn describe(status: &Status) -> String {
    let doing = match status {
        Status { is_aborted: true, .. } => "nothing more is fetched, because streaming was aborted",
        status if status.bytes_here == status.bytes => "everything is here",
        Status { is_finished: true, .. } => "only what is read is fetched",
        _ => "the rest is being fetched",
    };
    let mut text = format!(
        "{} streamed, {} of {} here: {doing}.\n{} waiting, {}.\n",
        human::count(status.layers, "layer"),
        human::bytes(status.bytes_here),
        human::bytes(status.bytes),
        human::count(status.waiting, "read"),
        human::count(status.retries, "retry|retries"),
    );
    for (id, lost) in &status.lost {
        let (gone, found) = (lost.chunks.len(), lost.recovered.len());
        let parts = [(gone - found, "lost"), (found, "lost, but found in other layers"), (lost.late.len(), "late")];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> =
            parts.map(|(count, what)| format!("{} {what}", human::count(*count as u64, "chunk"))).collect();
        let why = lost.why.trim_end_matches('.');
        let _ = writeln!(text, "Layer {id}: {} ({why}).", parts.join(", ")); // a string takes everything
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::stream::LostChunks;

    #[test]
    fn the_state_names_what_waits_and_what_was_lost() {
        let lost = LostChunks {
            chunks: vec![1, 2],
            recovered: vec![2],
            late: vec![7],
            chunk_size: 1 << 20,
            why: "It is gone.".into(),
        };
        let status = Status {
            bytes: 4 << 20,
            bytes_here: 1 << 20,
            layers: 2,
            waiting: 1,
            lost: [("abc".to_owned(), lost)].into(),
            ..Status::default()
        };
        assert_eq!(
            describe(&status),
            "2 layers streamed, 1.0 MiB of 4.0 MiB here: the rest is being fetched.\n1 read waiting, 0 retries.\n\
             Layer abc: 1 chunk lost, 1 chunk lost, but found in other layers, 1 chunk late (It is gone).\n"
        );
        let aborted = Status { is_aborted: true, is_finished: true, ..status };
        assert!(describe(&aborted).contains("aborted"));
    }
}
