//! Tools as a client uses them: listed, called, and held to their word.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::result::ToolResult;
use crate::units;

use super::{Client, Pending, object};

/// A tool as `tools/list` describes it.
#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    /// The whole entry of the list.
    pub entry: Value,
}

impl Client {
    /// All tools, in the order of the list. Asked for once per client.
    pub async fn tools(&self) -> Result<&[Tool]> {
        let tools = self.tools.get_or_try_init(|| async { self.list_tools().await });
        Ok(tools.await?)
    }

    /// All tools, asked for now, page by page.
    pub async fn list_tools(&self) -> Result<Vec<Tool>> {
        let mut tools = Vec::new();
        let mut params = json!({});
        loop {
            let page = self.request("tools/list", params).await?;
            for entry in page["tools"].as_array().context("no array `tools`")? {
                let name = entry["name"].as_str().context("a tool without a name")?.to_owned();
                tools.push(Tool { name, entry: entry.clone() });
            }
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return Ok(tools),
            }
        }
    }

    /// Calls a tool and checks its result against its output schema, and its units.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<ToolResult> {
        self.tools().await?;
        let pending = self.begin_call(tool, arguments).await?;
        self.finish_call(tool, pending).await
    }

    /// Calls a tool and goes on; the answer is taken with [`Client::finish_call`].
    pub async fn begin_call(&self, tool: &str, arguments: Value) -> Result<Pending> {
        self.begin("tools/call", json!({"name": tool, "arguments": object(arguments)})).await
    }

    /// The same, asking for progress under `token`.
    pub async fn begin_call_with_token(&self, tool: &str, arguments: Value, token: &str) -> Result<Pending> {
        let params = json!({"name": tool, "arguments": object(arguments), "_meta": {"progressToken": token}});
        self.begin("tools/call", params).await
    }

    pub async fn finish_call(&self, tool: &str, pending: Pending) -> Result<ToolResult> {
        let answer = self.finish(pending).await.with_context(|| format!("calling {tool}"))?;
        let result = ToolResult::parse(tool, &answer)?;
        if self.version().has_structured_content() {
            self.hold_to_its_word(tool, &result).await?;
        }
        Ok(result)
    }

    async fn hold_to_its_word(&self, tool: &str, result: &ToolResult) -> Result<()> {
        if result.structured["error"] == true {
            return result.check_problem();
        }
        let Some(described) = self.tools().await?.iter().find(|known| known.name == tool) else {
            bail!("{tool} answers, but is not in the list");
        };
        let Some(schema) = described.entry.get("outputSchema") else { return Ok(()) };
        if result.structured.is_null() {
            bail!("{tool} has an output schema and returned no structured content: {}", result.text);
        }
        let validator = jsonschema::validator_for(schema).with_context(|| format!("the output schema of {tool}"))?;
        let mut wrong: Vec<String> = validator
            .iter_errors(&result.structured)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        wrong.extend(units::wrong(tool, &result.structured));
        if !wrong.is_empty() {
            bail!("{tool} does not keep to its output schema:\n{}\n{:#}", wrong.join("\n"), result.structured);
        }
        Ok(())
    }
}
