//! The sandbox with real components: those of `tests/guests`, each of which misbehaves in one way.
//! What they do with a real server is tested from outside, with the whole program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::*;
use crate::audit::Audit;
use crate::call::{Call, Recorded, Reply};
use crate::capability::{Http, Servers, Ways};
use crate::config::{GrantsConfig, PluginConfig, PluginLimits};
use crate::error::{Code, Problem};
use crate::http::Tls;
use crate::inventory::{Inventory, ServerPatch};
use crate::secrets::Vault;
use crate::sftp::Commons;
use crate::ssh::{HostKeys, Pool, PoolSettings};
use crate::store::Store;

/// Small enough that the tests of the limits are quick, large enough for a debug build on a busy machine.
const LIMITS: PluginLimits = PluginLimits { memory: 16 << 20, compute: Duration::from_secs(1) };

/// The target directory: a test is `TARGET/PROFILE/deps/TEST`.
fn target() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned()
}

/// A component of `tests/guests`.
fn guest(name: &str) -> Vec<u8> {
    let dir = std::env::var_os("ORCHESTRATOR_GUESTS").map_or_else(|| target().join("guests"), PathBuf::from);
    let path = dir.join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run cargo xtask build --guests", path.display()))
}

/// A data directory with these components in it.
struct Home {
    dir: tempfile::TempDir,
    servers: OnceCell<(Servers, Kept)>,
    /// A server that is connected to and never says a word.
    silent: Option<TcpListener>,
}

impl Home {
    fn with(guests: &[&str]) -> Self {
        let home = Home { dir: tempfile::tempdir().unwrap(), servers: OnceCell::new(), silent: None };
        fs::create_dir(home.plugins()).unwrap();
        // What was compiled is shared by all tests, also of later runs: only the first one waits for it.
        let compiled = target().join("test-components");
        engine::private_dir(&compiled).unwrap();
        fs::create_dir(home.dir.path().join("cache")).unwrap();
        std::os::unix::fs::symlink(compiled, home.dir.path().join("cache/components")).unwrap();
        for name in guests {
            home.put(&format!("{name}.wasm"), &guest(name));
        }
        home
    }

    fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    fn put(&self, file: &str, bytes: &[u8]) {
        fs::write(self.plugins().join(file), bytes).unwrap();
    }

    /// The servers of `silent`, if there is one; a data directory has one database, whoever opens it first.
    async fn servers(&self) -> (Servers, Kept) {
        self.servers.get_or_init(|| self.open_servers()).await.clone()
    }

    async fn open_servers(&self) -> (Servers, Kept) {
        let at = |name: &str| self.dir.path().join(name);
        let store = Store::open(&at("orchestrator.redb")).unwrap();
        let vault = Vault::new(store.clone(), self.dir.path(), None);
        let kept = Kept::open(store.clone(), vault.clone()).await.unwrap();
        let inventory = Inventory::open(store).await.unwrap();
        if let Some(listener) = &self.silent {
            let patch = ServerPatch {
                alias: "silent".to_owned(),
                host: Some("127.0.0.1".to_owned()),
                port: Some(listener.local_addr().unwrap().port().into()),
                user: Some("nobody".to_owned()),
                agent: Some(true),
                tags: Some(vec!["quiet".to_owned()]),
                ..ServerPatch::default()
            };
            inventory.upsert(patch).await.unwrap();
        }
        let settings = PoolSettings {
            max_connections: 1,
            min_connections: 1,
            idle_timeout: Duration::from_secs(60),
            keep_alive_interval: None,
            connect_limit: Duration::from_secs(20),
            trusted_silence: Duration::ZERO,
            far: None,
        };
        let pool = Pool::new(settings, HostKeys::from_files(Vec::new()));
        let audit = Audit::open(&at("audit.jsonl")).unwrap();
        let commons = Commons::new(Vec::new(), self.dir.path());
        (Servers::new(inventory, vault, pool, Ways::default(), audit, commons), kept)
    }

    async fn load(&self) -> Arc<Plugins> {
        self.load_with(&[], BTreeMap::new()).await
    }

    async fn load_with(&self, bundled: &'static [Bundled], configs: BTreeMap<String, PluginConfig>) -> Arc<Plugins> {
        let (servers, kept) = self.servers().await;
        let setup = Setup {
            bundled,
            directory: self.plugins(),
            cache: self.dir.path().join("cache"),
            configs,
            limits: LIMITS,
            reserved_tools: BTreeSet::from(["task_exec".to_owned()]),
            http: Http::new(servers.clone(), Tls::new(None)),
            servers,
            kept,
        };
        Arc::new(Plugins::load(setup).await.unwrap())
    }
}

fn arguments(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

async fn call(plugins: &Plugins, tool: &str, with: Value) -> Result<Reply, Problem> {
    let (plugin, _) = plugins.tool(tool).unwrap_or_else(|| panic!("no tool {tool}: {:#?}", plugins.status()));
    plugins.call(&plugin.name, tool, arguments(with), Call::new(tool, "test")).await
}

fn state(plugins: &Plugins, name: &str) -> String {
    let status = plugins.get(name).unwrap_or_else(|| panic!("no plugin {name}")).status();
    status.problem.unwrap_or_else(|| status.state.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_cannot_be_loaded_says_why_and_harms_no_other() {
    let home = Home::with(&["bad-name", "clash", "echo", "garbage-schema", "loops-in-describe"]);
    home.put("a-module.wasm", b"\0asm\x01\0\0\0");
    home.put("a-script.wasm", b"#!/bin/sh\nexit\n");
    home.put("broken.wasm", &[b"\0asm\x0d\0\x01\0".as_slice(), &[0xff; 100]].concat());
    home.put("second-echo.wasm", &guest("echo"));
    home.put("ignored.txt", b"");
    fs::create_dir(home.plugins().join("a-folder.wasm")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.plugins().join("a-link.wasm")).unwrap();

    let plugins = home.load().await;
    let check = |name: &str, expected: &str| {
        let state = state(&plugins, name);
        assert!(state.contains(expected), "{name}: {state}");
    };
    check("echo", "ready");
    check("a-module", "a core WebAssembly module, not a component");
    check("a-script", "does not begin like WebAssembly");
    check("a-folder", "not a regular file");
    check("a-link", "No such file");
    check("broken", "could not be compiled");
    check("bad-name", "\"bad name\"");
    check("clash", "task_exec has the name of a tool of the core");
    check("garbage-schema", "input schema of the tool guest_garbage is not JSON");
    check("loops-in-describe", "computed for longer than allowed");
    let second = plugins.iter().last().unwrap().status();
    assert_eq!((second.name.as_str(), second.state), ("echo", "failed"));
    assert!(second.problem.unwrap().contains("already loaded from"));
    assert_eq!(plugins.iter().count(), 11);

    assert!(plugins.tools().all(|(plugin, _)| plugin.name == "echo"));
    let reply = call(&plugins, "echo", json!({"a": 1})).await.unwrap();
    assert_eq!(reply.structured["arguments"], json!({"a": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_component_is_listed_without_being_compiled_and_called_all_the_same() {
    let home = Home::with(&["echo"]);
    let first = home.load().await;
    assert!(first.get("echo").unwrap().component.ready().is_some());
    let second = home.load().await;
    assert!(second.get("echo").unwrap().component.ready().is_none());
    assert_eq!(first.get("echo").unwrap().tools, second.get("echo").unwrap().tools);
    assert_eq!(first.status(), second.status());
    assert_eq!(call(&second, "echo", json!({})).await.unwrap().text, "echo");
    assert!(second.get("echo").unwrap().component.ready().is_some());

    // The file is replaced after it was described: what runs must be what was listed.
    let third = home.load().await;
    home.put("echo.wasm", &guest("traps"));
    let problem = call(&third, "echo", json!({})).await.unwrap_err();
    assert_eq!(problem.code, Code::PluginFailed);
    assert!(problem.message.contains("changed on disk"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundled_plugin_is_there_without_compilation_and_gets_what_it_wants_and_another_gets_nothing() {
    let home = Home::with(&["echo"]);
    let described = home.load().await;
    let echo = described.get("echo").unwrap();
    assert_eq!(echo.grants(), &Grants::default());
    let info = PluginInfo {
        name: echo.name.clone(),
        version: echo.version.clone(),
        description: echo.description.clone(),
        tools: echo.tools.clone(),
        wants: echo.wants.clone(),
        settings_schema: None,
    };
    // What build.rs does at compile time; leaked, since a bundle lives as long as the program.
    let bundled: &'static [Bundled] = Vec::leak(vec![Bundled {
        name: "echo",
        wasm: Vec::leak(guest("echo")),
        info: String::leak(serde_json::to_string(&info).unwrap()),
    }]);
    let plugins = Home::with(&[]).load_with(bundled, BTreeMap::new()).await;
    let echo = plugins.get("echo").unwrap();
    assert_eq!((&echo.source, echo.component.ready().is_none()), (&Source::Bundled, true));
    assert!(echo.grants().allows_server("any", &[]) && echo.grants().allows_exec("any", &[]));
    plugins.warm_up().await;
    assert!(echo.component.ready().is_some());

    // Grants that the operator wrote replace what the plugin wants.
    let grants = GrantsConfig { servers: vec!["web-1".into()], ..GrantsConfig::default() };
    let config = PluginConfig { grants: Some(grants), ..PluginConfig::default() };
    let plugins = home.load_with(bundled, BTreeMap::from([("echo".to_owned(), config)])).await;
    assert!(!plugins.get("echo").unwrap().grants().allows_server("any", &[]));
    // The same component in the folder: the bundled one has the name.
    assert!(plugins.iter().last().unwrap().status().problem.unwrap().contains("already loaded from the bundle"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_plugin_is_listed_and_has_no_tools() {
    let home = Home::with(&["echo", "loops-in-describe"]);
    let off = PluginConfig { enabled: Some(false), ..PluginConfig::default() };
    let configs = ["echo", "loops-in-describe"].map(|name| (name.to_owned(), off.clone()));
    let plugins = home.load_with(&[], BTreeMap::from(configs)).await;
    assert_eq!(
        (state(&plugins, "echo").as_str(), state(&plugins, "loops-in-describe").as_str()),
        ("disabled", "disabled")
    );
    assert!(plugins.tools().next().is_none() && plugins.tool("echo").is_none());
    let problem = plugins.call("echo", "echo", Map::new(), Call::new("echo", "test")).await.unwrap_err();
    assert!(problem.message.contains("disabled"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_reads_its_settings_and_its_problems_keep_known_codes_only() {
    let config = PluginConfig { settings: arguments(json!({"level": 3})), ..PluginConfig::default() };
    let home = Home::with(&["echo"]);
    let plugins = home.load_with(&[], BTreeMap::from([("echo".to_owned(), config)])).await;
    let reply = call(&plugins, "guest_settings", json!({})).await.unwrap();
    assert!(reply.structured["settings"].to_string().contains("level"), "{:?}", reply.structured);

    let known = call(&plugins, "guest_problem", json!({"code": "CONNECTION_FAILED"})).await.unwrap_err();
    assert_eq!((known.code, known.message.as_str()), (Code::ConnectionFailed, "as the test wished"));
    assert_eq!(known.hint.as_deref(), Some("Ask for another code."));
    assert_eq!(known.details["from"], "echo");
    assert_eq!((&known.details["plugin"], &known.details["version"]), (&json!("echo"), &json!("0.1.0")));
    assert_eq!(plugins.get("echo").unwrap().status().last_error, None);

    let unknown = call(&plugins, "guest_problem", json!({"code": "MOON_PHASE"})).await.unwrap_err();
    assert_eq!((unknown.code, &unknown.details["plugin_code"]), (Code::PluginFailed, &json!("MOON_PHASE")));
    let last = plugins.get("echo").unwrap().status().last_error.unwrap();
    assert_eq!((last.tool.as_str(), last.code), ("guest_problem", Code::PluginFailed));

    let missing = plugins.call("echo", "nothing", Map::new(), Call::new("nothing", "test")).await.unwrap_err();
    assert_eq!(missing.code, Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outside_the_grant_is_refused_with_the_lines_that_would_grant_it() {
    let home = Home::with(&["echo"]);
    let plugins = home.load().await;
    let with = json!({"alias": "web-1", "command": {"program": "id"}});
    let problem = call(&plugins, "guest_exec", with.clone()).await.unwrap_err();
    assert_eq!((problem.code, &problem.details["capability"]), (Code::NotGranted, &json!("servers")));
    let lines = problem.details["orchestrator_toml"].as_str().unwrap();
    assert_eq!(lines, "[plugins.echo.grants]\nservers = [\"web-1\"]");
    assert_eq!(call(&plugins, "guest_servers", json!({})).await.unwrap().structured["servers"], json!([]));

    let grants = GrantsConfig { servers: vec!["web-1".into()], ..GrantsConfig::default() };
    let config = PluginConfig { grants: Some(grants), ..PluginConfig::default() };
    let plugins = home.load_with(&[], BTreeMap::from([("echo".to_owned(), config)])).await;
    let problem = call(&plugins, "guest_exec", with).await.unwrap_err();
    assert_eq!(problem.code, Code::ServerNotFound);

    let commands = vec![json!({"program": "id"}); 33];
    let reply = call(&plugins, "guest_exec_all", json!({"alias": "web-1", "commands": commands})).await.unwrap();
    let results = reply.structured["results"].as_array().unwrap();
    assert_eq!(results.len(), 33);
    assert!(results.iter().all(|result| result["code"] == "INVALID_ARGUMENT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_keeps_outlives_its_instance_and_a_cancelled_call_or_one_without_a_record_keeps_nothing() {
    let home = Home::with(&["echo"]);
    let plugins = home.load().await;
    let keep = async |tool: &str, op: &str, key: &str, value: &str| {
        let reply = call(&plugins, tool, json!({"op": op, "key": key, "value": value})).await;
        // No answer is left out of the structured half.
        reply.map(|reply| reply.structured.get("answer").cloned().unwrap_or_default())
    };
    for (key, value) in [("a/1", "one"), ("a/2", "two"), ("b", "three")] {
        assert_eq!(keep("guest_kv", "set", key, value).await, Ok(Value::Null));
    }
    assert_eq!(keep("guest_kv", "get", "a/2", "").await, Ok(json!("two")));
    assert_eq!(keep("guest_kv", "list", "a/", "").await, Ok(json!(["a/1", "a/2"])));
    assert_eq!(keep("guest_kv", "delete", "a/2", "").await, Ok(json!(true)));
    assert_eq!(keep("guest_kv", "get", "a/2", "").await, Ok(Value::Null));
    assert_eq!(keep("guest_kv", "set", "", "x").await.unwrap_err().code, Code::InvalidArgument);

    assert_eq!(keep("guest_secret", "set", "key", "hunter2").await, Ok(Value::Null));
    assert_eq!(keep("guest_secret", "exists", "key", "").await, Ok(json!(true)));
    assert_eq!(keep("guest_secret", "delete", "key", "").await, Ok(json!(true)));
    assert_eq!(keep("guest_secret", "exists", "key", "").await, Ok(json!(false)));

    let set = arguments(json!({"op": "set", "key": "late", "value": "x"}));
    let unwanted = Call::new("guest_kv", "test");
    unwanted.cancel.cancel();
    let problem = plugins.call("echo", "guest_kv", set.clone(), unwanted).await.unwrap_err();
    assert_eq!(problem.code, Code::Cancelled);
    let (recorder, recorded) = Recorded::pending();
    drop(recorder);
    let unrecorded = Call { recorded, ..Call::new("guest_kv", "test") };
    let problem = plugins.call("echo", "guest_kv", set, unrecorded).await.unwrap_err();
    assert!(problem.message.contains("nothing was done"), "{problem}");
    assert_eq!(keep("guest_kv", "get", "late", "").await, Ok(Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_names_plugin_version_tool_and_reason() {
    let plugins = Home::with(&["traps"]).load().await;
    let problem = call(&plugins, "guest_traps", json!({})).await.unwrap_err();
    assert_eq!(problem.code, Code::PluginFailed);
    for part in ["traps", "0.1.0", "guest_traps", "unreachable"] {
        assert!(problem.message.contains(part), "{}", problem.message);
    }
    assert!(!problem.message.contains('\n'));
    assert!(plugins.get("traps").unwrap().status().last_error.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_wants_too_much_memory_is_told_the_limit() {
    let plugins = Home::with(&["eats"]).load().await;
    let problem = call(&plugins, "guest_eats", json!({})).await.unwrap_err();
    assert_eq!(problem.code, Code::PluginFailed, "{problem}");
    assert!(problem.message.contains("more than 16 MiB"), "{}", problem.message);
}

/// One thread for everything: a guest that computed without yielding would stop the test itself.
#[tokio::test]
async fn an_endless_loop_ends_at_the_compute_limit_and_others_run_meanwhile() {
    let plugins = Home::with(&["echo", "loops"]).load().await;
    plugins.warm_up().await;
    let looping = {
        let plugins = plugins.clone();
        tokio::spawn(async move { call(&plugins, "guest_loops", json!({})).await })
    };
    let mut meanwhile = 0;
    while !looping.is_finished() {
        call(&plugins, "echo", json!({})).await.unwrap();
        meanwhile += 1;
    }
    // The last one may have ended after the loop did.
    assert!(meanwhile >= 2, "{meanwhile}");
    let problem = looping.await.unwrap().unwrap_err();
    assert_eq!(problem.code, Code::PluginTimeout);
    assert!(problem.message.contains("computed for more than 1 s in guest_loops"), "{}", problem.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_does_not_count_as_computing() {
    let plugins = Home::with(&["echo"]).load().await;
    let start = Instant::now();
    // So many sleeps of 10 ms are longer than the compute limit.
    let reply = call(&plugins, "guest_progress", json!({"steps": 120})).await.unwrap();
    assert_eq!(reply.structured["steps"], 120);
    assert!(start.elapsed() > LIMITS.compute);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_and_the_cancel_token_end_a_guest_that_waits_and_one_that_computes() {
    let plugins = Home::with(&["echo", "loops"]).load().await;
    plugins.warm_up().await;
    for (plugin, tool, with) in [("echo", "guest_progress", json!({"steps": 0})), ("loops", "guest_loops", json!({}))] {
        let late = Call::new(tool, "test").within(Duration::from_millis(100));
        let problem = plugins.call(plugin, tool, arguments(with.clone()), late).await.unwrap_err();
        assert_eq!(problem.code, Code::PluginTimeout, "{problem}");
        assert!(problem.message.contains("when its time ran out"), "{}", problem.message);

        let unwanted = Call::new(tool, "test");
        let (cancel, progress) = (unwanted.cancel.clone(), unwanted.progress.clone());
        let running = plugins.call(plugin, tool, arguments(with), unwanted);
        let start = Instant::now();
        let (result, ()) = tokio::join!(running, async {
            if plugin == "echo" {
                progress.subscribe().wait_for(Option::is_some).await.unwrap();
            } else {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        });
        let problem = result.unwrap_err();
        assert_eq!(problem.code, Code::Cancelled, "{problem}");
        assert_eq!(problem.details["plugin"], plugin);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

/// The server accepts the connection and then says nothing, so that every command waits for its greeting.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_waits_for_a_server_ends_at_once_when_cancelled_and_tells_at_its_deadline_what_it_waited_for() {
    let mut home = Home::with(&["echo"]);
    home.silent = Some(TcpListener::bind("127.0.0.1:0").unwrap());
    let grants =
        GrantsConfig { servers: vec!["tag:quiet".into()], exec: vec![vec!["id".into()]], ..GrantsConfig::default() };
    let config = PluginConfig { grants: Some(grants), ..PluginConfig::default() };
    let plugins = home.load_with(&[], BTreeMap::from([("echo".to_owned(), config)])).await;
    plugins.warm_up().await;
    let listed = call(&plugins, "guest_servers", json!({})).await.unwrap();
    assert_eq!(listed.structured["servers"][0]["tags"], json!(["quiet"]));

    let with = |program: &str| arguments(json!({"alias": "silent", "command": {"program": program}}));
    let refused = plugins.call("echo", "guest_exec", with("rm"), Call::new("guest_exec", "test")).await.unwrap_err();
    assert_eq!((refused.code, &refused.details["capability"]), (Code::NotGranted, &json!("exec")));

    // Longer than the compute limit: waiting for a server is not computing.
    let late = Call::new("guest_exec", "test").within(LIMITS.compute * 2);
    let problem = plugins.call("echo", "guest_exec", with("id"), late).await.unwrap_err();
    assert!(matches!(problem.code, Code::ConnectionFailed | Code::CommandTimeout), "{problem}");
    assert_eq!((&problem.details["alias"], &problem.details["plugin"]), (&json!("silent"), &json!("echo")));
    assert!(problem.details.contains_key("step"), "{:?}", problem.details);

    let unwanted = Call::new("guest_exec", "test");
    let cancel = unwanted.cancel.clone();
    let running = tokio::spawn({
        let (plugins, with) = (plugins.clone(), with("id"));
        async move { plugins.call("echo", "guest_exec", with, unwanted).await }
    });
    // The second connection: the guest is in its import now.
    let listener = home.silent.take().unwrap();
    let accept = move || (listener.accept().unwrap(), listener.accept().unwrap(), listener);
    let _connections = tokio::task::spawn_blocking(accept).await.unwrap();
    let start = Instant::now();
    cancel.cancel();
    let problem = running.await.unwrap().unwrap_err();
    assert_eq!((problem.code, &problem.details["plugin"]), (Code::Cancelled, &json!("echo")), "{problem}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn more_calls_than_there_is_room_for_wait_for_their_turn() {
    let plugins = Home::with(&["echo"]).load().await;
    // Each has its instance for 10 to 30 ms, so that at every moment one leaves and another one comes.
    let steps = |number: usize| 1 + number % 3;
    let calls = (0..engine::MAX_CALLS * 20).map(|number| {
        let plugins = plugins.clone();
        tokio::spawn(async move { call(&plugins, "guest_progress", json!({"steps": steps(number)})).await })
    });
    let calls: Vec<_> = calls.collect();
    for (number, running) in calls.into_iter().enumerate() {
        let reply = running.await.unwrap().unwrap();
        assert_eq!(reply.structured["steps"], steps(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_prints_and_logs_does_not_end_its_call() {
    let plugins = Home::with(&["echo"]).load().await;
    // More lines, and a longer message, than are kept.
    let long = "ä\n".repeat(3_000);
    for tool in ["guest_print", "guest_log"] {
        call(&plugins, tool, json!({"message": long})).await.unwrap();
    }
}

#[test]
fn the_folder_of_compiled_components_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("cache/components");
    engine::engine(LIMITS.memory, Some(&dir)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o700, 0o700));
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    engine::engine(LIMITS.memory, Some(&dir)).unwrap();
    assert_eq!(mode(&dir), 0o700);
}
