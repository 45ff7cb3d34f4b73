//! A guest that never says what it is: the host must give up on it while the other plugins load.

use orchestrator_sdk::prelude::*;

struct Guest;

impl Plugin for Guest {
    fn describe() -> Description {
        let mut turns = 0_u64;
        loop {
            turns = std::hint::black_box(turns.wrapping_add(1));
        }
    }
}

export!(Guest);
