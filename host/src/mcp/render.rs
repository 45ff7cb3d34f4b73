//! Our descriptions and answers in MCP's words.

use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, Tool, ToolAnnotations};
use serde_json::Value;

use crate::call::Reply;
use crate::error::Problem;
use crate::tools::ToolSpec;

/// A tool as `tools/list` shows it.
pub fn tool(spec: &ToolSpec) -> Tool {
    let hints = ToolAnnotations::new()
        .read_only(spec.annotations.read_only)
        .destructive(spec.annotations.destructive)
        .idempotent(spec.annotations.idempotent)
        .open_world(spec.annotations.open_world);
    let tool = Tool::new(spec.name.clone(), spec.description.clone(), Arc::new(spec.input_schema.clone()))
        .with_title(spec.title.clone())
        .with_annotations(hints);
    match &spec.output_schema {
        Some(schema) => tool.with_raw_output_schema(Arc::new(schema.clone())),
        None => tool,
    }
}

/// An answer: text for the model, the data beside it.
pub fn reply(reply: Reply) -> CallToolResult {
    let content = vec![ContentBlock::text(reply.text)];
    let mut result = match reply.is_error {
        true => CallToolResult::error(content),
        false => CallToolResult::success(content),
    };
    result.structured_content = Some(Value::Object(reply.structured));
    result
}

/// An error in the shape of the tool contract.
pub fn problem(problem: &Problem) -> CallToolResult {
    let mut result = CallToolResult::error(vec![ContentBlock::text(problem.text())]);
    result.structured_content = Some(problem.structured());
    result
}
