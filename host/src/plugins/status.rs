//! A plugin as `plugin_list` and the diagnostics show it. Read-only: nothing here changes a plugin.

use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Serialize;

use super::describe::Want;
use super::grants::Grants;
use super::registry::{Plugin, Plugins, State};
use crate::error::{Code, Problem};

/// One plugin for the operator's and the model's eyes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PluginStatus {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// `ready`, `disabled` or `failed`.
    pub state: &'static str,
    /// Why it failed to load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// `bundled`, or the path of its file.
    pub source: String,
    /// SHA-256 of the component in hex; empty when it was not read.
    pub digest: String,
    pub tools: Vec<String>,
    pub wants: Vec<Want>,
    pub grants: Grants,
    /// The last call that went wrong through the plugin's fault, or was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
}

/// A call of a plugin that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastError {
    pub at: Timestamp,
    pub tool: String,
    pub code: Code,
    pub message: String,
}

impl LastError {
    /// What is remembered of a problem: faults of the plugin and missing grants, not a server that was down.
    pub(super) fn of(tool: &str, problem: &Problem) -> Option<Self> {
        matches!(problem.code, Code::PluginFailed | Code::PluginTimeout | Code::NotGranted).then(|| LastError {
            at: problem.timestamp,
            tool: tool.to_owned(),
            code: problem.code,
            message: problem.message.clone(),
        })
    }
}

impl Plugin {
    pub fn status(&self) -> PluginStatus {
        let (state, problem) = match &self.state {
            State::Ready => ("ready", None),
            State::Disabled => ("disabled", None),
            State::Failed(error) => ("failed", Some(error.to_string())),
        };
        let source = match &self.source {
            super::Source::Bundled => "bundled".to_owned(),
            super::Source::File(path) => path.display().to_string(),
        };
        PluginStatus {
            name: self.name.clone(),
            version: self.version.clone(),
            description: self.description.clone(),
            state,
            problem,
            source,
            digest: self.digest.clone(),
            tools: self.tools.iter().map(|tool| tool.name.clone()).collect(),
            wants: self.wants.clone(),
            grants: self.grants().clone(),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Plugins {
    /// Every plugin, in the order of [`iter`](Plugins::iter).
    pub fn status(&self) -> Vec<PluginStatus> {
        self.iter().map(Plugin::status).collect()
    }
}
