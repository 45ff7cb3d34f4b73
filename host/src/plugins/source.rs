//! Where a plugin's component comes from, and its description: from the bundle, from the cache, or from the plugin itself.
//! Not whether it is accepted: that is [`registry`](super::registry).

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::bindings::{CONTRACT, PluginPre};
use super::bundle::Bundled;
use super::describe::PluginInfo;
use super::engine::private_dir;
use super::error::LoadError;
use super::grants::{Granted, Grants};
use super::instance::{Capabilities, Failure, Guest};
use super::sandbox::Sandbox;
use crate::call::Call;

/// The largest component that is read; one with a whole Python inside has about 40 MB.
const MAX_SIZE: u64 = 128 << 20;
/// How long a plugin may take to say what it is, and with compiling it.
const DESCRIBE: Duration = Duration::from_secs(15);
const READY: Duration = Duration::from_secs(60);

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Part of the program.
    Bundled,
    /// A file in the operator's folder.
    File(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Bundled => f.write_str("the bundle"),
            Source::File(path) => path.display().fmt(f),
        }
    }
}

/// A component that was found, whether it is any good or not.
pub struct Found {
    pub source: Source,
    /// What it is called before it says so itself.
    pub label: String,
    /// SHA-256 of its bytes in hex; empty when they could not be read.
    pub digest: String,
    pub info: Result<PluginInfo, LoadError>,
    pub component: Arc<Component>,
}

/// A component's code, compiled at the first use and once.
///
/// The bytes of a file are not kept: they are read again and must have the digest that was described.
pub struct Component {
    bytes: Bytes,
    digest: OnceLock<String>,
    ready: OnceLock<PluginPre<Guest>>,
    /// Held while compiling, on a thread of its own, so that two first calls compile once. A failure is not kept: what
    /// failed for want of file handles may work the next time.
    compiling: Mutex<()>,
}

enum Bytes {
    Bundled(&'static [u8]),
    File(PathBuf),
}

impl Component {
    fn new(bytes: Bytes) -> Arc<Self> {
        Arc::new(Component { bytes, digest: OnceLock::new(), ready: OnceLock::new(), compiling: Mutex::new(()) })
    }

    /// The linked component, if it is there already.
    pub fn ready(&self) -> Option<PluginPre<Guest>> {
        self.ready.get().cloned()
    }

    /// The linked component; compiles when it must. Blocks for up to seconds.
    pub fn prepare(&self, sandbox: &Sandbox) -> Result<PluginPre<Guest>, LoadError> {
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = self.ready.get() {
            return Ok(ready.clone());
        }
        let prepared = match &self.bytes {
            Bytes::Bundled(wasm) => sandbox.prepare(wasm)?,
            Bytes::File(path) => {
                let wasm = read(path)?;
                if self.digest.get().is_some_and(|digest| *digest != sha256(&wasm)) {
                    return Err(LoadError::Changed { path: path.clone() });
                }
                sandbox.prepare(&wasm)?
            }
        };
        Ok(self.ready.get_or_init(|| prepared).clone())
    }
}

/// A bundled plugin: nothing is compiled.
pub fn from_bundle(bundled: &Bundled) -> Found {
    Found {
        source: Source::Bundled,
        label: bundled.name.to_owned(),
        digest: sha256(bundled.wasm),
        info: PluginInfo::from_json(bundled.info).map_err(LoadError::Description),
        component: Component::new(Bytes::Bundled(bundled.wasm)),
    }
}

/// A file of which nothing is known but its name: one that the operator disabled under that name.
pub fn unread(path: &Path) -> Found {
    Found {
        source: Source::File(path.to_owned()),
        label: label(path),
        digest: String::new(),
        info: Err(LoadError::Unreadable { path: path.to_owned(), reason: "it was not read".to_owned() }),
        component: Component::new(Bytes::File(path.to_owned())),
    }
}

/// A file: its description comes from the cache when its digest is known, else from the plugin itself.
pub async fn from_file(sandbox: Arc<Sandbox>, path: PathBuf, cache: Arc<DescribeCache>) -> Found {
    let mut found = unread(&path);
    let component = found.component.clone();
    found.info = match tokio::time::timeout(READY, describe(sandbox, &component, &path, &found.label, cache)).await {
        Ok(info) => info,
        Err(_) => Err(LoadError::TooSlow(READY)),
    };
    found.digest = component.digest.get().cloned().unwrap_or_default();
    found
}

async fn describe(
    sandbox: Arc<Sandbox>,
    component: &Arc<Component>,
    path: &Path,
    label: &str,
    cache: Arc<DescribeCache>,
) -> Result<PluginInfo, LoadError> {
    enum Known {
        Info(PluginInfo),
        Ready(PluginPre<Guest>),
    }
    let (engine, known, file) = (sandbox.clone(), cache.clone(), path.to_owned());
    let this = component.clone();
    let first = tokio::task::spawn_blocking(move || {
        let wasm = read(&file)?;
        let digest = this.digest.get_or_init(|| sha256(&wasm));
        match known.read(digest) {
            Some(info) => Ok(Known::Info(info)),
            None => this.prepare(&engine).map(Known::Ready),
        }
    });
    let prepared = match first.await.map_err(|error| LoadError::Compile(error.to_string()))?? {
        Known::Info(info) => return Ok(info),
        Known::Ready(prepared) => prepared,
    };
    let given = Capabilities {
        granted: Arc::new(Granted {
            plugin: label.to_owned(),
            version: "(not described yet)".to_owned(),
            grants: Grants::default(),
            wants: Vec::new(),
        }),
        settings: "{}".into(),
        servers: None,
        http: None,
        kept: None,
        call: Call::new("describe", "mcp-orchestrator").within(DESCRIBE),
    };
    let info = sandbox.describe(&prepared, given).await.map_err(|failure| LoadError::Describe(told(failure)))?;
    let info = PluginInfo::from_guest(info)?;
    if let Some(digest) = component.digest.get() {
        cache.write(digest, &info);
    }
    Ok(info)
}

fn told(failure: Failure) -> String {
    match failure {
        // describe() returns no problem; the type only allows it.
        Failure::Problem(problem) => super::describe::one_line(&problem.message),
        Failure::Trap { reason, stderr } if stderr.is_empty() => reason,
        Failure::Trap { reason, stderr } => format!("{reason}; it said: {}", super::describe::one_line(&stderr)),
        Failure::Memory => "it needed more memory than allowed".to_owned(),
        Failure::Compute => "it computed for longer than allowed".to_owned(),
        Failure::Deadline | Failure::NoRoom => format!("it took longer than {} s", DESCRIBE.as_secs()),
        Failure::Cancelled => "it was cancelled".to_owned(),
    }
}

/// The components in a folder, sorted by name. No folder is no plugins.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!(dir = %dir.display(), %error, "could not read the folder of plugins");
            }
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    files.sort();
    files
}

/// The file's name without `.wasm`.
fn label(path: &Path) -> String {
    super::describe::one_line(&path.file_stem().unwrap_or_default().to_string_lossy())
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let unreadable =
        |error: &dyn std::fmt::Display| LoadError::Unreadable { path: path.to_owned(), reason: error.to_string() };
    // Asked before it is opened: opening a named pipe would wait for somebody to write into it.
    let meta = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !meta.is_file() {
        return Err(unreadable(&"it is not a regular file"));
    }
    if meta.len() > MAX_SIZE {
        return Err(LoadError::TooLarge { size: meta.len(), limit: MAX_SIZE });
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    file.take(MAX_SIZE).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    Ok(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// Descriptions of known components, a file per digest.
pub struct DescribeCache {
    dir: PathBuf,
}

/// One cache file. A description is only as good as the contract by which it was asked for.
#[derive(Serialize, Deserialize)]
struct Entry {
    contract: String,
    info: PluginInfo,
}

impl DescribeCache {
    pub fn new(dir: PathBuf) -> Self {
        DescribeCache { dir }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}.json"))
    }

    /// The description of the component with this digest; a file that is not as we write it counts as none.
    fn read(&self, digest: &str) -> Option<PluginInfo> {
        let text = fs::read_to_string(self.path(digest)).ok()?;
        let entry: Entry = serde_json::from_str(&text).ok()?;
        if entry.contract != CONTRACT {
            return None;
        }
        PluginInfo::from_json(&serde_json::to_string(&entry.info).ok()?).ok()
    }

    /// Keeps a description. It is only a cache: when that fails the next start asks the plugin again.
    fn write(&self, digest: &str, info: &PluginInfo) {
        let entry = Entry { contract: CONTRACT.to_owned(), info: info.clone() };
        if let Err(error) = self.try_write(digest, &entry) {
            tracing::warn!(dir = %self.dir.display(), %error, "could not keep a plugin's description");
        }
    }

    /// Under another name first, then renamed: a reader sees the whole file or none.
    fn try_write(&self, digest: &str, entry: &Entry) -> std::io::Result<()> {
        private_dir(&self.dir)?;
        let temporary = self.dir.join(format!(".{digest}.{}", std::process::id()));
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        fs::rename(&temporary, self.path(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> PluginInfo {
        PluginInfo::from_json(
            r#"{"name": "a", "version": "1.0.0", "description": "", "tools": [{"name": "t", "title": "", "description": "d",
                "input_schema": {"type": "object"}, "execution": "direct",
                "annotations": {"read_only": true, "destructive": false, "idempotent": true, "open_world": false}}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_description_is_kept_by_digest_and_a_broken_or_outdated_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DescribeCache::new(dir.path().join("describe"));
        assert_eq!(cache.read("aa"), None);
        cache.write("aa", &info());
        assert_eq!(cache.read("aa"), Some(info()));
        assert_eq!(cache.read("bb"), None);

        let text = fs::read_to_string(cache.path("aa")).unwrap();
        let changes = [
            text[..text.len() / 2].to_owned(),
            text.replace(CONTRACT, "0.0.9"),
            text.replace("\"t\"", "\"t__t\""),
            String::new(),
        ];
        for broken in changes {
            fs::write(cache.path("aa"), &broken).unwrap();
            assert_eq!(cache.read("aa"), None, "{broken}");
        }
        let left: Vec<_> = fs::read_dir(&cache.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["aa.json"]);
    }

    #[test]
    fn only_files_that_end_in_wasm_are_found_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.wasm", "a.wasm", "c.wasm.bak", "README.md"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> = files(dir.path()).iter().map(|path| label(path)).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(files(&dir.path().join("missing")).is_empty());
    }
}
