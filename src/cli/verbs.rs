//! `nix-cache restore`, `save`, `verify` and `detach`.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::args::{
    DetachCommand, Format, ProjectArgs, RemoteArgs, RestoreCommand, SaveCommand, StoreArgs, VerifyCommand,
};
use super::show;
use crate::app::Failure;
use crate::app::place::{UNSIGNED, limited, open, time_to_fetch};
use crate::app::print::{print, print_json};
use crate::app::settings::{RestoreArgs, TrustArgs, escaped};
use crate::attach;
use crate::base::env_vars;
use crate::base::human;
use crate::base::secrets;
use crate::cache::{self, Context, Identity, ModeRequest, Packing, Place, RestoreOutcome, SaveOutcome, SaveReason};
use crate::layer::pack::Options;
use crate::remote::Purpose;
use crate::series::Hit;
use crate::series::sign::Keyring;
use crate::store::StoreDirs;

/// How layers are attached on this machine.
pub(super) fn mode(restore: &RestoreArgs) -> ModeRequest {
    restore.mode(std::env::var(env_vars::RUNNER_ENVIRONMENT).is_ok_and(|value| value == "github-hosted"))
}

/// Prepares `context` for a restore with these settings: its mode and its time.
pub(super) fn limit(context: &mut Context, restore: &RestoreArgs) {
    let limit = restore.restore_timeout;
    context.place.deadline = Some(Instant::now() + limit);
    context.place.remote = limited(context.place.remote.clone(), Some(time_to_fetch(limit)));
    context.place.mode = mode(restore);
}

/// Restores and prints the result.
pub(super) async fn restore(command: &RestoreCommand) -> Result<(), Failure> {
    let keys = keys(None, &command.trust)?;
    let mut context = context(&command.project, (&command.remote, Purpose::Restore), &command.store, keys)?;
    limit(&mut context, &command.restore);
    let outcome = cache::restore(&context).await.map_err(Failure::work)?;
    match command.output.format {
        Format::Json => print_json(&outcome)?,
        Format::Text => print(&describe_restore(&outcome)),
    }
    let key = &context.identity.key;
    match command.fail.failure(outcome.hit, outcome.hit != Hit::Miss) {
        None => Ok(()),
        Some(_) if command.fail.fail_on_miss && outcome.hit == Hit::Miss => {
            Err(Failure::work(format!("Cache miss for the key {key}, and --fail-on-miss was given.")))
        }
        Some(condition) => Err(Failure::work(format!("--fail-on: {condition} holds for the key {key}."))),
    }
}

/// Saves and prints the result.
pub(super) async fn save(command: &SaveCommand) -> Result<(), Failure> {
    let keys = keys(command.signing.signing_key_file.as_deref(), &command.signing.trust)?;
    let mut context = context(&command.project, (&command.remote, Purpose::Save), &command.store, keys)?;
    context.packing = Packing { threads: context.packing.threads, ..command.packing.packing() };
    context.place.remote = limited(context.place.remote, command.packing.save_timeout);
    let outcome = cache::save(&context).await.map_err(Failure::work)?;
    match command.output.format {
        Format::Json => print_json(&outcome),
        Format::Text => {
            print(&describe_save(&outcome));
            Ok(())
        }
    }
}

/// Verifies and prints the result; damage is a failure.
pub(super) async fn verify(command: &VerifyCommand) -> Result<(), Failure> {
    let dirs = StoreDirs::new(command.store.root.store_root.as_deref());
    let threads = threads(&command.store);
    let task = tokio::task::spawn_blocking(move || cache::verify(&dirs, threads));
    let verified = task.await.map_err(Failure::work)?.map_err(Failure::work)?;
    match command.output.format {
        Format::Json => print_json(&verified)?,
        Format::Text => {
            let size = human::bytes(verified.nar_bytes);
            print(&format!("{} ({size}) verified.\n", human::count(verified.sound, "path")));
            for (path, why) in &verified.damaged {
                print(&format!("DAMAGED {path}: {why}\n"));
            }
        }
    }
    match verified.damaged.len() {
        0 => Ok(()),
        count => Err(Failure::work(format!(
            "{} damaged. Repair with `nix-store --repair-path`.",
            human::count(count as u64, "path")
        ))),
    }
}

/// Detaches and prints the result.
pub(super) async fn detach(command: &DetachCommand) -> Result<(), Failure> {
    let dirs = StoreDirs::new(command.store.root.store_root.as_deref());
    let threads = threads(&command.store);
    let task = tokio::task::spawn_blocking(move || cache::detach(&dirs, threads));
    let detached = task.await.map_err(Failure::work)?.map_err(Failure::work)?;
    match command.output.format {
        Format::Json => print_json(&detached)?,
        Format::Text if !detached.was_mounted => print("Nothing was mounted.\n"),
        Format::Text => print(&format!(
            "Unmounted. {} from layers removed; {} kept because new paths need them.\n",
            human::count(detached.unregistered, "path"),
            human::count(detached.kept, "path")
        )),
    }
    Ok(())
}

/// Performs the step read from standard input and answers on standard output.
pub(super) async fn privileged() -> Result<(), Failure> {
    let task = tokio::task::spawn_blocking(|| {
        let request: attach::Request = serde_json::from_reader(std::io::stdin().lock()).map_err(Failure::usage)?;
        // The caller reports the reason; nobody reads the log of this process.
        let refused = |error: attach::CacheError| attach::Answer::Refused(error.to_string());
        Ok::<_, Failure>(attach::perform(&request, &AtomicU64::new(0)).unwrap_or_else(refused))
    });
    let answer = task.await.map_err(Failure::work)??;
    print_json(&answer)
}

pub(super) fn context(
    project: &ProjectArgs,
    (place, purpose): (&RemoteArgs, Purpose),
    store: &StoreArgs,
    keys: Keyring,
) -> Result<Context, Failure> {
    let shared = &place.share.share_with;
    if !shared.is_empty() && !keys.asks_for_signatures() {
        return Err(Failure::usage(format!("--share-with: {UNSIGNED}")));
    }
    let made = show::of(project)?;
    let (key, prefixes) = escaped(&made)?;
    tracing::info!("Key {}", made.primary);
    let lane = place.lane.lane.clone().unwrap_or_else(|| "default".to_owned());
    Ok(Context {
        identity: Identity { key, prefixes, system: show::system(project), lane, run: String::new() },
        packing: Packing { threads: threads(store), ..Packing::default() },
        place: Place {
            dirs: StoreDirs::new(store.root.store_root.as_deref()),
            remote: open(&place.remote, shared, purpose, secrets::var)?.remote,
            keys,
            mode: ModeRequest::Auto { is_hosted: false },
            temporary: std::env::temp_dir(),
            deadline: None,
            limit: None,
        },
    })
}

/// Returns the keys in a file and on the command line.
pub(super) fn keys(signing: Option<&Path>, trust: &TrustArgs) -> Result<Keyring, Failure> {
    let signing = match signing {
        None => String::new(),
        Some(file) => match crate::base::bounds::read_text(file, crate::base::bounds::MAX_TEXT) {
            Ok(text) if text.trim().is_empty() => {
                return Err(Failure::usage(format!("--signing-key-file: {} contains no key.", file.display())));
            }
            Ok(text) => text,
            Err(error) => {
                let file = file.display();
                return Err(Failure::usage(format!("--signing-key-file: cannot read {file}: {error}.")));
            }
        },
    };
    trust.keyring(&signing)
}

pub(super) fn threads(store: &StoreArgs) -> usize {
    store.threads.unwrap_or_else(|| Options::new().threads)
}

pub(super) fn describe_restore(outcome: &RestoreOutcome) -> String {
    let RestoreOutcome { paths_restored, paths_in_snapshot, paths_already_valid, seconds, .. } = outcome;
    let (Some(key), Some(generation)) = (&outcome.matched_key, outcome.generation) else {
        return format!("Miss: no usable snapshot for {} or its restore prefixes.\n", outcome.primary_key);
    };
    let kind = if outcome.hit == Hit::Exact { "Exact hit" } else { "Partial hit" };
    let nar = human::bytes(outcome.nar_bytes_restored);
    let fetched = human::bytes(outcome.bytes_downloaded);
    format!(
        "{kind}: generation {generation} of {key}. {paths_restored} of {} restored ({nar}, \
         {fetched} downloaded), {paths_already_valid} already present; {seconds:.1} s.\n",
        human::count(*paths_in_snapshot, "store path")
    )
}

pub(super) fn describe_save(outcome: &SaveOutcome) -> String {
    let seconds = outcome.seconds;
    match &outcome.saved {
        Some(saved) => {
            let sent = human::bytes(outcome.bytes_uploaded);
            let nar = human::bytes(outcome.nar_bytes_new);
            let dropped = match outcome.paths_dropped {
                0 => String::new(),
                count => format!(", {count} unused dropped"),
            };
            format!(
                "Saved generation {} of {}: {} in {}. {} ({nar}, {sent} uploaded){dropped}; {seconds:.1} s.\n",
                saved.generation,
                outcome.primary_key,
                human::count(saved.paths, "store path"),
                human::count(saved.layers, "layer"),
                human::count(outcome.paths_new, "new path")
            )
        }
        None => format!("{}; {seconds:.1} s.\n", why_not(outcome.reason)),
    }
}

fn why_not(reason: SaveReason) -> &'static str {
    match reason {
        SaveReason::NothingNew => "Nothing saved: the snapshot of this key already has everything",
        SaveReason::NothingToSave => "Nothing saved: the store has no paths besides those from before the restore",
        SaveReason::Refused => "Nothing saved: the cache refused it, or it could not be signed",
        SaveReason::Failed
        | SaveReason::NewKey
        | SaveReason::NewPaths
        | SaveReason::LaneGrew
        | SaveReason::Repaired
        | SaveReason::LayersJoined => "Nothing saved: see the warnings above",
    }
}
