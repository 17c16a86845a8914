//! Checks the images of layers before they are mounted or unpacked: an image that this program would not write is refused as a
//! whole.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicUsize;

use serde::{Deserialize, Serialize};

use crate::attach::layers::AttachLayer;
use crate::base::digest::Sha;
use crate::base::threads::side_by_side;
use crate::layer::pack::Rejected;
use crate::layer::squashfs::usage::Usage;
use crate::layer::squashfs::{Checked, ImageError, Member, check_with_usage};
use crate::store::StorePath;

/// Largest number of store paths in all layers of one restore.
const MAX_PATHS: usize = 1 << 18;

/// A layer that is not used.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RefusedLayer {
    pub id: Sha,
    /// What is wrong with its image, as the end of a sentence.
    pub why: String,
    /// Number of paths that were wanted from it.
    pub paths: usize,
}

/// The result of checking images.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    /// Layers whose images the packer would not write.
    pub refused: Vec<RefusedLayer>,
    /// Paths that a valid layer does not contain as expected.
    pub rejected: Vec<Rejected>,
    /// The names in each valid layer.
    pub names: Vec<BTreeSet<Vec<u8>>>,
    /// Which bytes of valid layers belong to which path.
    pub usage: BTreeMap<Sha, Usage>,
}

impl Inspection {
    /// Removes refused layers and rejected paths from `layers`.
    pub(super) fn keep_sound(&self, layers: &mut Vec<AttachLayer>) {
        let refused: BTreeSet<Sha> = self.refused.iter().map(|layer| layer.id).collect();
        let rejected: BTreeSet<&StorePath> = self.rejected.iter().map(|rejected| &rejected.path).collect();
        layers.retain(|layer| !refused.contains(&layer.id));
        for layer in layers {
            layer.infos.retain(|info| !rejected.contains(&info.path));
        }
    }
}

/// Checks the images of `layers` in parallel.
pub(crate) fn inspect(layers: &[AttachLayer]) -> Inspection {
    let room = AtomicUsize::new(MAX_PATHS);
    let look = |layer: &AttachLayer| {
        let file = File::open(&layer.file).map_err(ImageError::from);
        Ok::<_, Infallible>(file.and_then(|file| check_with_usage(&file, &room)))
    };
    let crashed = |error: io::Error| ImageError::from(error);
    let looked: Vec<Result<Checked, ImageError>> =
        side_by_side(layers, |layer| look(layer).map_err(|never| match never {}), crashed).unwrap_or_else(|error| {
            let why = error.to_string();
            layers.iter().map(|_| Err(ImageError::Foreign(why.clone()))).collect()
        });
    let mut inspection = Inspection::default();
    for (layer, members) in layers.iter().zip(looked) {
        match members {
            Ok(Checked { members, usage }) => {
                inspection.usage.extend(usage.map(|usage| (layer.id, usage)));
                inspection.rejected.extend(wrong_paths(layer, &members));
                let name = |member: Member| member.path.as_str().as_bytes().to_vec();
                inspection.names.push(members.into_iter().map(name).collect());
            }
            Err(error) => {
                let (why, paths) = (error.to_string(), layer.infos.len());
                inspection.refused.push(RefusedLayer { id: layer.id, why, paths });
            }
        }
    }
    inspection
}

/// Returns the paths wanted from `layer` that its image does not contain in the expected size.
fn wrong_paths(layer: &AttachLayer, members: &[Member]) -> Vec<Rejected> {
    let wrong = layer.infos.iter().filter_map(|info| {
        let found = members.binary_search_by(|member| member.path.cmp(&info.path)).ok().map(|at| members[at].nar_size);
        let why = match found {
            Some(size) if size == info.nar_size => return None,
            Some(size) => format!("The layer has {size} bytes of it, but the snapshot says {}.", info.nar_size),
            None => "The layer does not contain it.".to_owned(),
        };
        Some(Rejected { path: info.path.clone(), why })
    });
    wrong.collect()
}
