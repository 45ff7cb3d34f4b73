//! A guest with a tool name that MCP clients do not accept: the host must refuse the plugin as a whole.

use orchestrator_sdk::prelude::*;

struct Guest;

impl Plugin for Guest {
    fn describe() -> Description {
        Description::new("bad-name", env!("CARGO_PKG_VERSION"), "Has a bad tool name.")
            .tool(Tool::new("bad name", "Bad name", "Its name has a space.", call).read_only().direct())
    }
}

export!(Guest);

fn call(_: &dyn Host, _: NoArguments) -> Result<Output<()>, Problem> {
    Ok(Output::text("not reached"))
}
