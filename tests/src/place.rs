//! A temporary machine: a home with `.ssh`, and a data directory. It outlives the processes started in it, so that a test
//! can start the program a second time on what the first one left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Removed with everything in it when it is dropped.
pub struct Place {
    root: TempDir,
}

impl Place {
    /// An empty home and no data directory yet: making it is the program's work.
    pub fn new() -> Result<Place> {
        Place::below(&std::env::temp_dir())
    }

    /// The same in memory instead of on a disk. `None`: this system has no place for that.
    pub fn in_memory() -> Result<Option<Place>> {
        let memory = Path::new("/dev/shm");
        memory.is_dir().then(|| Place::below(memory)).transpose()
    }

    fn below(folder: &Path) -> Result<Place> {
        let root = tempfile::Builder::new().prefix("orchestrator-").tempdir_in(folder);
        let place = Place { root: root.context("making a temporary home")? };
        fs::create_dir_all(place.ssh_dir())?;
        fs::set_permissions(place.ssh_dir(), fs::Permissions::from_mode(0o700))?;
        Ok(place)
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// What the program sees as `HOME`.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    pub fn ssh_dir(&self) -> PathBuf {
        self.home().join(".ssh")
    }

    /// What the program sees as `MCP_DATA_DIR`.
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Writes `~/.ssh/known_hosts`.
    pub fn know_hosts(&self, lines: &str) -> Result<()> {
        fs::write(self.ssh_dir().join("known_hosts"), lines).context("writing known_hosts")
    }

    /// Writes `orchestrator.toml` into the data directory, which is made if need be.
    pub fn configure(&self, toml: &str) -> Result<()> {
        self.make_data()?;
        fs::write(self.data().join("orchestrator.toml"), toml).context("writing orchestrator.toml")
    }

    /// Puts a component into `plugins/` of the data directory.
    pub fn install_plugin(&self, component: &Path) -> Result<()> {
        let name = component.file_name().with_context(|| format!("{component:?} has no file name"))?;
        let folder = self.data().join("plugins");
        self.make_data()?;
        fs::create_dir_all(&folder)?;
        fs::copy(component, folder.join(name)).with_context(|| format!("copying {}", component.display()))?;
        Ok(())
    }

    /// Makes the data directory with the mode that the program would give it.
    pub fn make_data(&self) -> Result<()> {
        fs::create_dir_all(self.data())?;
        fs::set_permissions(self.data(), fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    /// Every file below the data directory.
    pub fn data_files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
                let entry = entry?;
                match entry.file_type()? {
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => files.push(entry.path()),
                    _ => {}
                }
            }
        }
        Ok(files)
    }
}
