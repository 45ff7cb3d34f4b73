//! Which plugins there are: found, described, accepted or refused, with the tools and rights of each.
//! Nothing here runs a tool; nothing that is wrong with one plugin touches another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;

use super::bundle::Bundled;
use super::describe::{PluginInfo, ToolInfo, Want};
use super::error::{LoadError, SandboxError};
use super::grants::{Granted, Grants};
use super::kept::Kept;
use super::sandbox::Sandbox;
use super::source::{self, Component, DescribeCache, Found, Source};
use super::status::LastError;
use crate::capability::{Http, Servers};
use crate::config::{PluginConfig, PluginLimits};

/// Third-party components that are described at the same time.
const AT_ONCE: usize = 4;

/// What [`Plugins::load`] needs to know.
pub struct Setup {
    /// [`bundled()`](super::bundled), or none.
    pub bundled: &'static [Bundled],
    /// Third-party components: `DATA_DIR/plugins`.
    pub directory: PathBuf,
    /// For compiled components and descriptions: `DATA_DIR/cache`. Nobody else may write there.
    pub cache: PathBuf,
    /// `[plugins.NAME]`.
    pub configs: BTreeMap<String, PluginConfig>,
    pub limits: PluginLimits,
    /// The names of the core's tools, which no plugin may take.
    pub reserved_tools: BTreeSet<String>,
    pub servers: Servers,
    pub http: Http,
    pub kept: Kept,
}

/// All plugins, good or not.
pub struct Plugins {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) servers: Servers,
    pub(super) http: Http,
    pub(super) kept: Kept,
    plugins: Vec<Plugin>,
    /// Tool name to plugin.
    tools: BTreeMap<String, usize>,
}

/// One plugin.
pub struct Plugin {
    /// As it calls itself; the file's name when it never got to say.
    pub name: String,
    /// Empty when it never got to say.
    pub version: String,
    pub description: String,
    /// SHA-256 of the component in hex.
    pub digest: String,
    pub source: Source,
    pub state: State,
    /// What it describes; only those of a plugin that is ready can be called.
    pub tools: Vec<ToolInfo>,
    pub wants: Vec<Want>,
    pub(super) granted: Arc<Granted>,
    /// `[plugins.NAME.settings]` as a JSON object.
    pub(super) settings: Arc<str>,
    pub(super) component: Arc<Component>,
    /// Written by calls, read by `plugin_list`; held for one assignment.
    pub(super) last_error: Mutex<Option<LastError>>,
}

/// Whether a plugin can be used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum State {
    Ready,
    /// The operator turned it off.
    Disabled,
    Failed(LoadError),
}

impl Serialize for LoadError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Plugin {
    pub fn grants(&self) -> &Grants {
        &self.granted.grants
    }

    pub fn tool(&self, name: &str) -> Option<&ToolInfo> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

impl Plugins {
    /// Finds all plugins. Bundled and known ones cost no compilation; unknown files are compiled and asked what they are,
    /// a few at a time. Fails only when there can be no sandbox at all.
    pub async fn load(setup: Setup) -> Result<Plugins, SandboxError> {
        // In a folder of its own: wasmtime removes from it what it does not know.
        let sandbox = Arc::new(Sandbox::new(setup.limits, Some(&setup.cache.join("components")))?);
        let descriptions = Arc::new(DescribeCache::new(setup.cache.join("describe")));
        let third_party = futures::stream::iter(source::files(&setup.directory)).map(|path| {
            let (sandbox, descriptions) = (sandbox.clone(), descriptions.clone());
            let found = source::unread(&path);
            let disabled = is_disabled(setup.configs.get(&found.label));
            async move { if disabled { found } else { source::from_file(sandbox, path, descriptions).await } }
        });
        let mut found: Vec<Found> = setup.bundled.iter().map(source::from_bundle).collect();
        found.extend(third_party.buffered(AT_ONCE).collect::<Vec<_>>().await);

        let plugins = accept(found, &setup.configs, &setup.reserved_tools);
        for name in setup.configs.keys() {
            if !plugins.iter().any(|plugin| plugin.name == *name) {
                tracing::warn!(plugin = name, "orchestrator.toml has settings for a plugin that does not exist");
            }
        }
        let mut tools = BTreeMap::new();
        for (index, plugin) in plugins.iter().enumerate().filter(|(_, plugin)| plugin.state == State::Ready) {
            tools.extend(plugin.tools.iter().map(|tool| (tool.name.clone(), index)));
        }
        Ok(Plugins { sandbox, servers: setup.servers, http: setup.http, kept: setup.kept, plugins, tools })
    }

    /// Every plugin: the bundled ones, then the others, each sorted by file name.
    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.iter()
    }

    /// The plugin of this name; a loaded one before others that wanted the same name.
    pub fn get(&self, name: &str) -> Option<&Plugin> {
        let named = || self.plugins.iter().filter(|plugin| plugin.name == name);
        named().find(|plugin| plugin.state == State::Ready).or_else(|| named().next())
    }

    /// The tools that can be called, in a stable order.
    pub fn tools(&self) -> impl Iterator<Item = (&Plugin, &ToolInfo)> {
        let ready = self.plugins.iter().filter(|plugin| plugin.state == State::Ready);
        ready.flat_map(|plugin| plugin.tools.iter().map(move |tool| (plugin, tool)))
    }

    /// The plugin that has this tool.
    pub fn tool(&self, name: &str) -> Option<(&Plugin, &ToolInfo)> {
        let plugin = self.plugins.get(*self.tools.get(name)?)?;
        Some((plugin, plugin.tool(name)?))
    }

    /// Compiles every plugin that is ready, one after the other, so that no first call waits for it. Meant to run in the
    /// background; cancelled by dropping it.
    pub async fn warm_up(&self) {
        for plugin in self.plugins.iter().filter(|plugin| plugin.state == State::Ready) {
            if let Err(error) = self.prepare(plugin).await {
                tracing::warn!(plugin = plugin.name, %error, "could not prepare a plugin");
            }
        }
    }
}

fn is_disabled(config: Option<&PluginConfig>) -> bool {
    config.is_some_and(|config| config.enabled == Some(false))
}

/// Decides about each in order: the first to take a name has it. A disabled plugin keeps its name but takes no tools.
fn accept(
    found: Vec<Found>,
    configs: &BTreeMap<String, PluginConfig>,
    reserved_tools: &BTreeSet<String>,
) -> Vec<Plugin> {
    let mut names: BTreeMap<String, Source> = BTreeMap::new();
    let mut owners: BTreeMap<String, String> =
        reserved_tools.iter().map(|tool| (tool.clone(), "the core".to_owned())).collect();
    let mut plugins = Vec::new();
    for found in found {
        let (name, info) = match found.info {
            Ok(info) => (info.name.clone(), Ok(info)),
            Err(error) => (found.label, Err(error)),
        };
        let config = configs.get(&name);
        let (state, info) = match info {
            _ if is_disabled(config) && !names.contains_key(&name) => (State::Disabled, info.ok()),
            Err(error) => (State::Failed(error), None),
            Ok(info) => match clash(&info, &names, &owners) {
                Some(error) => (State::Failed(error), Some(info)),
                None => (State::Ready, Some(info)),
            },
        };
        if let (Some(info), State::Ready | State::Disabled) = (&info, &state) {
            names.insert(info.name.clone(), found.source.clone());
        }
        if let (Some(info), State::Ready) = (&info, &state) {
            let owner = || format!("the plugin {}", info.name);
            owners.extend(info.tools.iter().map(|tool| (tool.name.clone(), owner())));
        }
        if let State::Failed(error) = &state {
            tracing::warn!(plugin = name, source = %found.source, %error, "a plugin was not loaded");
        }
        plugins.push(plugin(name, found.source, found.digest, found.component, state, info, config));
    }
    plugins
}

fn clash(info: &PluginInfo, names: &BTreeMap<String, Source>, owners: &BTreeMap<String, String>) -> Option<LoadError> {
    if let Some(from) = names.get(&info.name) {
        return Some(LoadError::NameTaken { name: info.name.clone(), from: from.to_string() });
    }
    info.tools.iter().find_map(|tool| {
        let owner = owners.get(&tool.name)?;
        Some(LoadError::ToolTaken { tool: tool.name.clone(), owner: owner.clone() })
    })
}

fn plugin(
    name: String,
    source: Source,
    digest: String,
    component: Arc<Component>,
    state: State,
    info: Option<PluginInfo>,
    config: Option<&PluginConfig>,
) -> Plugin {
    let (version, description, tools, wants) = match info {
        Some(info) => (info.version, info.description, info.tools, info.wants),
        None => Default::default(),
    };
    let grants = match (config.and_then(|config| config.grants.as_ref()), &source) {
        (Some(granted), _) => Grants::from_config(granted),
        (None, Source::Bundled) => Grants::from_wants(&wants),
        (None, Source::File(_)) => Grants::default(),
    };
    let settings = config.map(|config| config.settings.clone()).unwrap_or_default();
    Plugin {
        granted: Arc::new(Granted { plugin: name.clone(), version: version.clone(), grants, wants: wants.clone() }),
        name,
        version,
        description,
        digest,
        source,
        state,
        tools,
        wants,
        settings: Value::Object(settings).to_string().into(),
        component,
        last_error: Mutex::new(None),
    }
}
