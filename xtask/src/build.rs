//! `cargo xtask build`: the plugins to components, then the program with them inside.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, binary, cargo, root, say, target_dir};
use crate::{plugins, setup, wasm};

#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Optimize the program (the plugins always are)
    #[arg(long)]
    pub release: bool,
    /// Build the guests of the tests as well, into target/guests
    #[arg(long)]
    pub guests: bool,
    /// Other programs of the workspace to build along
    #[arg(skip)]
    pub programs: Vec<&'static str>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::compiler()?;
    components(arguments.guests)?;
    bundle()?;
    if arguments.guests {
        guests()?;
    }
    let mut command = cargo();
    // All of the workspace is selected here as it is for the tests, though one program is built: cargo then chooses the
    // same features for every dependency, and none is built twice.
    command.args(["build", "--workspace", "--bin", "mcp-orchestrator"]);
    for program in &arguments.programs {
        command.args(["--bin", program]);
    }
    if arguments.release {
        command.arg("--release");
    } else {
        // The tests' dependencies have one feature more.
        command.args(["--features", "orchestrator-tests/test-util"]);
    }
    process::run(&mut command)?;
    say(&format!("built {}", binary("mcp-orchestrator", arguments.release).display()));
    Ok(())
}

/// Compiles the plugins, and the guests of the tests if they are wanted. They share all libraries: each of these runs asks for
/// components alone.
fn components(guests: bool) -> Result<()> {
    let compiler = wasm::compiler()?;
    let mut commands: Vec<Command> =
        plugins::bundled()?.iter().map(|plugin| compiler.build_component(plugin.package)).collect();
    if guests {
        let mut command = compiler.build();
        command.args(["-p", "orchestrator-guests", "--lib", "--examples"]);
        commands.push(command);
    }
    for command in &mut commands {
        command.args(["--profile", "component", "--target-dir"]).arg(wasm::target_dir());
        process::run(command)?;
    }
    Ok(())
}

/// Writes `target/bundle/NAME.wasm` and beside each the plugin's description as `NAME.json`, which the program embeds.
fn bundle() -> Result<()> {
    // The program looks for it in the target directory that it is built in.
    let folder = target_dir().join("bundle");
    let mut kept = Vec::new();
    for plugin in plugins::bundled()? {
        let info = (plugin.describe)();
        if info.name != plugin.folder {
            bail!("the plugin in plugins/{} calls itself {:?}: both must be the same", plugin.folder, info.name);
        }
        let built = wasm::target_dir().join(wasm::TARGET).join("component");
        let component = built.join(format!("{}.wasm", plugin.package.replace('-', "_")));
        let component = read(&component)?;
        say(&format!("{}.wasm: {} KB", info.name, component.len() / 1000));
        let description = serde_json::to_vec(&info)?;
        write_if_changed(&folder.join(format!("{}.wasm", info.name)), &component)?;
        write_if_changed(&folder.join(format!("{}.json", info.name)), &description)?;
        kept.extend([format!("{}.wasm", info.name), format!("{}.json", info.name)]);
    }
    // A plugin that was removed or renamed must not stay in the program.
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if !kept.contains(&entry.file_name().to_string_lossy().into_owned()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes `target/guests/NAME.wasm` for each example of `tests/guests`.
fn guests() -> Result<()> {
    let built = wasm::target_dir().join(wasm::TARGET).join("component/examples");
    for name in guest_names()? {
        let component = read(&built.join(format!("{}.wasm", name.replace('-', "_"))))?;
        write_if_changed(&root().join("target/guests").join(format!("{name}.wasm")), &component)?;
    }
    Ok(())
}

/// The names of the examples, from the guests' manifest.
fn guest_names() -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root().join("tests/guests/Cargo.toml"))?;
    let examples = manifest.split("[[example]]").skip(1);
    examples
        .map(|example| {
            let line = example.lines().find_map(|line| line.trim().strip_prefix("name = "));
            line.map(|name| name.trim().trim_matches('"').to_owned()).context("an example in tests/guests has no name")
        })
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("the component {} was not built", path.display()))
}

/// Leaves a file alone that is already as it should be, so that cargo sees nothing to build again.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
