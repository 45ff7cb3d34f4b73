//! A guest that panics in its call, which is a trap of the component.

use orchestrator_sdk::prelude::*;

struct Guest;

impl Plugin for Guest {
    fn describe() -> Description {
        Description::new("traps", env!("CARGO_PKG_VERSION"), "Traps.")
            .tool(Tool::new("guest_traps", "Trap", "Panics.", call).read_only().direct())
    }
}

export!(Guest);

fn call(_: &dyn Host, _: NoArguments) -> Result<Output<()>, Problem> {
    let nothing: Option<u8> = std::hint::black_box(None);
    match nothing {
        Some(_) => Ok(Output::text("not reached")),
        None => panic!("as the test wished"),
    }
}
