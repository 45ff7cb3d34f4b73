//! A guest that allocates without end: the memory limit must end it, not the machine.

use orchestrator_sdk::prelude::*;

struct Guest;

impl Plugin for Guest {
    fn describe() -> Description {
        Description::new("eats", env!("CARGO_PKG_VERSION"), "Eats memory.")
            .tool(Tool::new("guest_eats", "Eat", "Allocates without end.", call).read_only().direct())
    }
}

export!(Guest);

fn call(_: &dyn Host, _: NoArguments) -> Result<Output<()>, Problem> {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![1; 1 << 20]);
        std::hint::black_box(&eaten);
    }
}
