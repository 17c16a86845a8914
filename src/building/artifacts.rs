//! Outputs as files for upload-artifact: a compressed NAR for each store path.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use clap::ValueEnum;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::layer::{NarError, write_nar};

/// zstd's own default, and gzip's.
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;

/// How NARs are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Format {
    /// zstd
    #[default]
    #[serde(rename = "nar.zst")]
    #[value(name = "nar.zst")]
    Zstd,
    /// gzip
    #[serde(rename = "nar.gz")]
    #[value(name = "nar.gz")]
    Gzip,
}

impl Format {
    /// The suffix of file names.
    #[must_use]
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => "nar.zst",
            Self::Gzip => "nar.gz",
        }
    }
}

/// A request to export outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactRequest {
    /// The folder to fill; it is made.
    pub folder: PathBuf,
    /// How.
    pub format: Format,
}

/// A file that was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Artifact {
    /// The store path.
    pub path: String,
    pub file: String,
    /// Size of the NAR.
    pub nar_bytes: u64,
    /// Size of the file.
    pub bytes: u64,
    /// The file's size as a share of the NAR's.
    pub ratio: f64,
    /// How long it took.
    pub ms: u64,
}

/// Why there is no file for a store path.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} could not be exported to {file}: {cause}. Check that the folder of `artifacts` can be written and has room."
)]
pub(crate) struct ArtifactError {
    path: String,
    file: String,
    cause: String,
    /// The system's error, if there is one.
    pub kind: Option<io::ErrorKind>,
}

/// Exports `paths` of the store under `root`, several at once.
///
/// # Errors
/// [`ArtifactError`] for the first that fails; files are whole or not there.
pub(crate) fn export(
    paths: &[String],
    root: Option<&Path>,
    request: &ArtifactRequest,
) -> Result<Vec<Artifact>, ArtifactError> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(paths.len().max(1));
    let (next, done) = (Mutex::new(paths.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // Nobody panics while holding a lock.
                    let Some(path) = next.lock().ok().and_then(|mut next| next.next()) else { return };
                    let exported = export_one(path, root, request);
                    let failed = exported.is_err();
                    if let Ok(mut done) = done.lock() {
                        done.push(exported);
                    }
                    if failed {
                        return;
                    }
                }
            });
        }
    });
    let all: Result<Vec<_>, _> = done.into_inner().unwrap_or_default().into_iter().collect();
    let mut all = all?;
    all.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(all)
}

fn export_one(path: &str, root: Option<&Path>, request: &ArtifactRequest) -> Result<Artifact, ArtifactError> {
    let start = Instant::now();
    let base = path.rsplit('/').next().unwrap_or(path);
    let file = request.folder.join(format!("{base}.{}", request.format.suffix()));
    let real = root.unwrap_or(Path::new("/")).join(path.trim_start_matches('/'));
    let wrong = |cause: Cause| ArtifactError {
        path: path.to_owned(),
        file: file.display().to_string(),
        kind: cause.kind(),
        cause: cause.to_string(),
    };
    let (nar_bytes, bytes) = write(&real, &file, request).map_err(wrong)?;
    Ok(Artifact {
        path: path.to_owned(),
        file: file.display().to_string(),
        nar_bytes,
        bytes,
        ratio: (bytes as f64 / nar_bytes.max(1) as f64 * 1000.0).round() / 1000.0,
        ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Nar(#[from] NarError),
}

impl Cause {
    fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io(error) | Self::Nar(NarError::Io(error)) => Some(error.kind()),
            Self::Nar(_) => None,
        }
    }
}

/// Writes the file and returns the sizes of NAR and file.
fn write(real: &Path, file: &Path, request: &ArtifactRequest) -> Result<(u64, u64), Cause> {
    fs::create_dir_all(&request.folder)?;
    let temporary = tempfile::NamedTempFile::new_in(&request.folder)?;
    let out = BufWriter::new(temporary);
    let (nar_bytes, mut out) = match request.format {
        Format::Zstd => {
            let mut counter = Counter { inner: zstd::Encoder::new(out, ZSTD_LEVEL)?, bytes: 0 };
            write_nar(real, &mut counter)?;
            (counter.bytes, counter.inner.finish()?)
        }
        Format::Gzip => {
            let mut counter = Counter { inner: GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL)), bytes: 0 };
            write_nar(real, &mut counter)?;
            (counter.bytes, counter.inner.finish()?)
        }
    };
    out.flush()?;
    let temporary = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let bytes = temporary.as_file().metadata()?.len();
    // Temporary files are private; the next step may run as somebody else.
    temporary.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    temporary.persist(file).map_err(|error: tempfile::PersistError| error.error)?;
    Ok((nar_bytes, bytes))
}

/// Counts what is written.
struct Counter<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn files_hold_the_nar_and_their_sizes_are_told() {
        let root = tempfile::tempdir().unwrap();
        let store = root.path().join("nix/store");
        fs::create_dir_all(store.join("a-x/sub")).unwrap();
        fs::write(store.join("a-x/sub/file"), "hello ".repeat(10_000)).unwrap();
        fs::write(store.join("b-y"), "one file").unwrap();
        let paths: Vec<String> = ["/nix/store/a-x", "/nix/store/b-y"].map(str::to_owned).to_vec();
        for format in [Format::Zstd, Format::Gzip] {
            let request = ArtifactRequest { folder: root.path().join("out/deep"), format };
            let made = export(&paths, Some(root.path()), &request).unwrap();
            assert_eq!(made.len(), 2);
            for (artifact, path) in made.iter().zip(&paths) {
                assert_eq!(artifact.path, *path);
                assert!(artifact.file.ends_with(format.suffix()));
                let mut nar = Vec::new();
                let file = File::open(&artifact.file).unwrap();
                assert_eq!(file.metadata().unwrap().len(), artifact.bytes);
                match format {
                    Format::Zstd => zstd::Decoder::new(file).unwrap().read_to_end(&mut nar).unwrap(),
                    Format::Gzip => flate2::read::GzDecoder::new(file).read_to_end(&mut nar).unwrap(),
                };
                let mut expected = Vec::new();
                write_nar(&root.path().join(&path[1..]), &mut expected).unwrap();
                assert_eq!((nar.len() as u64, &nar), (artifact.nar_bytes, &expected));
            }
            assert!(made[0].ratio < 0.1, "{made:?}");
        }
    }

    #[test]
    fn what_cannot_be_exported_is_named_and_leaves_no_file() {
        let root = tempfile::tempdir().unwrap();
        let request = ArtifactRequest { folder: root.path().join("out"), format: Format::Zstd };
        let error = export(&["/nix/store/none".to_owned()], Some(root.path()), &request).unwrap_err();
        assert!(error.to_string().contains("/nix/store/none"), "{error}");
        assert_eq!(error.kind, Some(io::ErrorKind::NotFound));
        assert_eq!(fs::read_dir(&request.folder).unwrap().count(), 0);
    }
}
