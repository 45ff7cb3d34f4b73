//! The plugins that are bundled with the program: the one list of them.
//!
//! A plugin is linked in natively too, which gives its description without running the component.

use std::fs;

use anyhow::{Result, bail};
use orchestrator_sdk::{PluginInfo, describe};

use crate::process::root;

/// A plugin in `plugins/`.
pub struct Bundled {
    /// Its folder.
    pub folder: &'static str,
    /// Its crate.
    pub package: &'static str,
    pub describe: fn() -> PluginInfo,
}

const BUNDLED: &[Bundled] = &[
    Bundled {
        folder: "monitoring",
        package: "orchestrator-monitoring",
        describe: describe::<orchestrator_monitoring::Monitoring>,
    },
    Bundled {
        folder: "fail2ban",
        package: "orchestrator-fail2ban",
        describe: describe::<orchestrator_fail2ban::Fail2ban>,
    },
    Bundled { folder: "logs", package: "orchestrator-logs", describe: describe::<orchestrator_logs::Logs> },
    Bundled { folder: "api", package: "orchestrator-api", describe: describe::<orchestrator_api::Api> },
];

/// All of them. A folder in `plugins/` that is not listed here is an error, since its plugin would be left out silently.
pub fn bundled() -> Result<&'static [Bundled]> {
    for entry in fs::read_dir(root().join("plugins"))? {
        let entry = entry?;
        let folder = entry.file_name().to_string_lossy().into_owned();
        if entry.path().join("Cargo.toml").is_file() && BUNDLED.iter().all(|plugin| plugin.folder != folder) {
            bail!("plugins/{folder} is not bundled: add it to xtask/src/plugins.rs and xtask/Cargo.toml");
        }
    }
    Ok(BUNDLED)
}
