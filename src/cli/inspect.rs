//! `nix-cache inspect`: shows the content of a snapshot.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::args::{Format, InspectCommand};
use super::{show, verbs};
use crate::app::Failure;
use crate::app::place::remote;
use crate::app::print::{print, print_json};
use crate::app::settings::escaped;
use crate::base::clock::now;
use crate::base::human;
use crate::cache::{SnapshotFound, find_snapshot};
use crate::series::generation_prefix;
use crate::snapshot::Facts;
use crate::store::StorePath;

/// The content of a snapshot, as printed.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Inspection {
    key: String,
    generation: u64,
    /// The trusted key that signed it; null if no signature was required.
    signed_by: Option<String>,
    facts: Facts,
    nar_bytes: u64,
    layer_bytes: u64,
    paths: Vec<InspectedPath>,
    layers: Vec<InspectedLayer>,
    lanes: BTreeMap<String, InspectedLane>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct InspectedPath {
    path: StorePath,
    nar_hash: String,
    nar_size: u64,
    references: u64,
    signatures: u64,
    last_used: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct InspectedLayer {
    id: String,
    bytes: u64,
    /// Bytes stored for this layer alone; the rest comes from older layers.
    stored_bytes: u64,
    paths: u64,
    wanted_nar_bytes: u64,
    nar_bytes: u64,
    created: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct InspectedLane {
    used: u64,
    paths: u64,
}

/// Prints the newest snapshot of the key, or of the first restore prefix that has one.
pub(super) async fn inspect(command: &InspectCommand) -> Result<(), Failure> {
    let key = show::of(&command.project)?;
    let (primary, prefixes) = escaped(&key)?;
    let remote = remote(&command.remote.remote)?;
    let names: Vec<String> = std::iter::once(generation_prefix(&primary)).chain(prefixes).collect();
    let keys = verbs::keys(None, &command.trust)?;
    let search = find_snapshot(&*remote, &names, &keys, &mut Vec::new()).await.map_err(Failure::work)?;
    let Some(found) = search.found else {
        return Err(Failure::work(format!("The {} has no usable snapshot for {primary}.", remote.describe())));
    };
    let inspection = of(found);
    match command.output.format {
        Format::Json => print_json(&inspection)?,
        Format::Text => print(&describe(&inspection, command.paths)),
    }
    Ok(())
}

fn of(found: SnapshotFound) -> Inspection {
    let snapshot = found.snapshot;
    let size = |key: &_| snapshot.paths.get(key).map_or(0, |record| record.info.nar_size);
    let layers = snapshot.layers.iter().map(|(id, layer)| InspectedLayer {
        id: id.to_string(),
        bytes: layer.digests.size,
        stored_bytes: snapshot.stored.get(&layer.own_stored()).map_or(0, |stored| stored.digests.size),
        paths: layer.paths.len() as u64,
        wanted_nar_bytes: layer.paths.iter().map(size).sum(),
        nar_bytes: layer.nar_bytes,
        created: layer.created,
    });
    let layers: Vec<_> = layers.collect();
    let paths = snapshot.paths.values().map(|record| InspectedPath {
        path: record.info.path.clone(),
        nar_hash: record.info.nar_hash.to_database(),
        nar_size: record.info.nar_size,
        references: record.info.references.len() as u64,
        signatures: record.info.signatures.len() as u64,
        last_used: record.last_used,
    });
    let lane = |(name, lane): (&String, &crate::snapshot::Lane)| {
        (name.clone(), InspectedLane { used: lane.used, paths: lane.paths.len() as u64 })
    };
    Inspection {
        key: found.key,
        generation: found.generation,
        signed_by: found.signed_by,
        facts: snapshot.facts.clone(),
        nar_bytes: snapshot.paths.keys().map(size).sum(),
        layer_bytes: snapshot.stored_bytes(),
        paths: paths.collect(),
        layers,
        lanes: snapshot.lanes.iter().map(lane).collect(),
    }
}

fn describe(inspection: &Inspection, with_paths: bool) -> String {
    let Inspection { key, generation, facts, .. } = inspection;
    let signed = inspection.signed_by.as_ref().map_or_else(String::new, |name| format!(", signed by {name}"));
    let mut out = format!(
        "{key}, generation {generation}{signed}\n  written {} by {} on {} for lane {}\n  {}, {} of NARs, \
         {} in layers\n",
        ago(facts.created),
        facts.tool,
        facts.system,
        facts.lane,
        human::count(inspection.paths.len() as u64, "store path"),
        human::bytes(inspection.nar_bytes),
        human::bytes(inspection.layer_bytes),
    );
    // Writing to a String cannot fail.
    for layer in &inspection.layers {
        let (bytes, wanted) = (human::bytes(layer.stored_bytes), human::bytes(layer.wanted_nar_bytes));
        let all = human::bytes(layer.nar_bytes);
        let id = &layer.id[..16];
        let made = if layer.bytes > layer.stored_bytes {
            format!(" stored, {} with parts of older layers", human::bytes(layer.bytes))
        } else {
            String::new()
        };
        let _ = writeln!(
            out,
            "layer {id}  {bytes}{made}, {} wanted ({wanted} of {all})",
            human::count(layer.paths, "path")
        );
    }
    for (name, lane) in &inspection.lanes {
        let _ = writeln!(out, "lane {name}  {}, last saved {}", human::count(lane.paths, "path"), ago(lane.used));
    }
    if with_paths {
        for path in &inspection.paths {
            let _ = writeln!(out, "{:>10}  {}", human::bytes(path.nar_size), path.path);
        }
    }
    out
}

/// Describes how long ago a moment was.
fn ago(seconds_since_1970: u64) -> String {
    let age = now().saturating_sub(seconds_since_1970);
    match age {
        0..120 => format!("{age} s ago"),
        120..7_200 => format!("{} min ago", age / 60),
        7_200..172_800 => format!("{} h ago", age / 3_600),
        _ => format!("{} days ago", age / 86_400),
    }
}
