//! The two lifecycles of MCP: the handshake (`initialize`) up to 2025-11-25, and metadata on each request from 2026-07-28 on.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Client;

/// A protocol version that the program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

impl Version {
    /// Oldest first.
    pub const ALL: [Version; 5] =
        [Version::V2024_11_05, Version::V2025_03_26, Version::V2025_06_18, Version::V2025_11_25, Version::V2026_07_28];

    pub fn as_str(self) -> &'static str {
        match self {
            Version::V2024_11_05 => "2024-11-05",
            Version::V2025_03_26 => "2025-03-26",
            Version::V2025_06_18 => "2025-06-18",
            Version::V2025_11_25 => "2025-11-25",
            Version::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether a session opens with `initialize`.
    pub fn has_handshake(self) -> bool {
        self != Version::V2026_07_28
    }

    /// Whether tools may have an output schema and structured results.
    pub fn has_structured_content(self) -> bool {
        !matches!(self, Version::V2024_11_05 | Version::V2025_03_26)
    }

    /// The parameters with what each request of this version carries in `_meta`; capabilities that are there already stay.
    pub(super) fn with_meta(self, mut params: Value, capabilities: &Value) -> Value {
        if self.has_handshake() {
            return params;
        }
        if params.is_null() {
            params = json!({});
        }
        if let Some(object) = params.as_object_mut() {
            let meta = object.entry("_meta").or_insert_with(|| json!({}));
            meta["io.modelcontextprotocol/protocolVersion"] = json!(self.as_str());
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "orchestrator-tests", "version": "1.0"});
            if meta["io.modelcontextprotocol/clientCapabilities"].is_null() {
                meta["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
            }
        }
        params
    }
}

impl Client {
    /// Opens the session as the version demands, and returns what the program says of itself.
    pub(super) async fn greet(&self) -> Result<Value> {
        if !self.version.has_handshake() {
            let greeting = self.request("server/discover", json!({})).await?;
            let supported = greeting["supportedVersions"].as_array().context("no supportedVersions")?;
            ensure!(
                supported.contains(&json!(self.version.as_str())),
                "{greeting} does not support {:?}",
                self.version
            );
            return Ok(greeting);
        }
        let params = json!({
            "protocolVersion": self.version.as_str(),
            "capabilities": self.capabilities,
            "clientInfo": {"name": "orchestrator-tests", "version": "1.0"},
        });
        let greeting = self.request("initialize", params).await?;
        let answered = &greeting["protocolVersion"];
        ensure!(answered == self.version.as_str(), "asked for {:?}, got {answered}", self.version);
        self.notify("notifications/initialized", json!({})).await?;
        Ok(greeting)
    }
}
