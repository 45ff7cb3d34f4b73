//! A guest whose call never ends: the host must end it after the compute limit and harm nobody else.

use orchestrator_sdk::prelude::*;

struct Guest;

impl Plugin for Guest {
    fn describe() -> Description {
        Description::new("loops", env!("CARGO_PKG_VERSION"), "Never ends.")
            .tool(Tool::new("guest_loops", "Loop", "Never ends.", call).read_only().direct())
    }
}

export!(Guest);

fn call(_: &dyn Host, _: NoArguments) -> Result<Output<()>, Problem> {
    let mut turns = 0_u64;
    loop {
        // Something that the compiler must not take out.
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
