//! Tests of the settings: which source wins, what is refused and with which words.

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let home = [("HOME", "/home/op")];
    home.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn from(env: &[(&str, &str)], dotenv: &[(&str, &str)], toml: &str) -> Result<Settings, ConfigError> {
    Settings::from_sources(&map(env), &map(dotenv), Some(toml))
}

#[test]
fn without_any_source_the_defaults_of_the_contract_hold() {
    let settings = from(&[], &[], "").unwrap();
    let expected = Settings {
        data_dir: "/home/op/.config/mcp-orchestrator".into(),
        sync_timeout: Duration::from_secs(30),
        command_timeout: Some(Duration::from_millis(300_000)),
        interactive_timeout: Some(Duration::from_millis(120_000)),
        max_wait: Duration::from_secs(600),
        connect_timeout: Duration::from_secs(20),
        max_connections_per_server: 5,
        min_connections_per_server: 1,
        idle_timeout: Duration::from_millis(300_000),
        keep_alive_interval: Some(Duration::from_millis(30_000)),
        max_queue_size: 1000,
        max_running_jobs: 128,
        max_jobs_per_server: 64,
        history_retention: Duration::from_millis(2_678_400_000),
        allowed_roots: Vec::new(),
        ca_file: None,
        daemon_idle: Some(Duration::from_secs(300)),
        host_keys: HostKeyPolicy::Strict,
        proxy: None,
        proxy_password: None,
        known_hosts: Vec::new(),
        log_level: "info".to_owned(),
        master_key: None,
        plugins: BTreeMap::new(),
        plugin_limits: PluginLimits::default(),
        detach: DetachConfig::default(),
        legacy: LegacyConfig::default(),
    };
    assert!(settings == expected, "{settings:?}");
}

#[test]
fn new_host_keys_are_accepted_only_where_the_operator_says_so() {
    let policy = |value: &str| from(&[("MCP_HOST_KEYS", value)], &[], "").map(|settings| settings.host_keys);
    assert_eq!(policy("accept-new").unwrap(), HostKeyPolicy::AcceptNew);
    assert_eq!(policy("Strict").unwrap(), HostKeyPolicy::Strict);
    for wrong in ["no", "off", "accept", "yes"] {
        assert!(policy(wrong).unwrap_err().to_string().contains("strict or accept-new"), "{wrong}");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_stops_the_start_and_is_not_repeated() {
    let error = from(&[("MCP_PROXY", "http://ada:secret@proxy")], &[], "").unwrap_err().to_string();
    assert!(error.contains("MCP_PROXY") && error.contains("password") && !error.contains("secret"), "{error}");
    assert_eq!(from(&[], &[], "proxy = 'socks5://p'").unwrap().proxy.unwrap().to_string(), "socks5://p:1080");
}

#[test]
fn a_proxys_user_and_its_password_need_each_other() {
    let of = |settings: &[(&str, &str)]| from(settings, &[], "").map_err(|error| error.to_string());
    let with_user = ("MCP_PROXY", "socks5://ada@proxy");
    let password = ("MCP_PROXY_PASSWORD", "kestrel-secret");
    let settings = of(&[with_user, password]).unwrap();
    assert_eq!(settings.proxy_password.as_deref(), Some("kestrel-secret"));
    assert!(!format!("{settings:?} {}", settings.shown()).contains("kestrel"));
    let error = of(&[with_user]).unwrap_err();
    assert!(error.contains("MCP_PROXY") && error.contains("MCP_PROXY_PASSWORD"), "{error}");
    for proxy in [&[password][..], &[("MCP_PROXY", "socks5://proxy"), password], &[("MCP_PROXY", "none"), password]] {
        let error = of(proxy).unwrap_err();
        assert!(
            error.contains("MCP_PROXY_PASSWORD") && error.contains("user") && !error.contains("kestrel"),
            "{error}"
        );
    }
}

#[test]
fn old_algorithms_are_allowed_by_name_and_server_only() {
    let legacy = |text: &str| from(&[], &[], text).map(|settings| settings.legacy).map_err(|error| error.to_string());
    let config = legacy("[legacy]\nservers = ['old-*']\nalgorithms = ['ssh-rsa', 'aes256-cbc']\n").unwrap();
    assert_eq!(config.of("old-switch", &[]), ["ssh-rsa", "aes256-cbc"]);
    assert!(config.of("web", &[]).is_empty());
    let error = legacy("[legacy]\nservers = ['old-*']\nalgorithms = ['3des-cbc']\n").unwrap_err();
    assert!(error.contains("3des-cbc") && error.contains("aes128-cbc"), "{error}");
    let error = legacy("[legacy]\nserver = ['old-*']\n").unwrap_err();
    assert!(error.contains("did you mean \"servers\"?"), "{error}");
}

#[test]
fn the_environment_wins_over_dotenv_and_that_over_the_file() {
    let queue = |env: &[(&str, &str)], dotenv: &[(&str, &str)], toml| from(env, dotenv, toml).unwrap().max_queue_size;
    let (env, dotenv, toml) = ([("MAX_QUEUE_SIZE", "1")], [("MAX_QUEUE_SIZE", "2")], "max_queue_size = 3");
    assert_eq!(queue(&env, &dotenv, toml), 1);
    assert_eq!(queue(&[("MAX_QUEUE_SIZE", " ")], &dotenv, toml), 2);
    assert_eq!(queue(&[], &dotenv, toml), 2);
    assert_eq!(queue(&[], &[], toml), 3);
    assert_eq!(queue(&[], &[], "max_queue_size = 1_500"), 1500);
}

#[test]
fn zero_is_no_limit_and_the_later_names_count_seconds() {
    let timeout = |env: &[(&str, &str)]| from(env, &[], "").unwrap().command_timeout;
    assert_eq!(timeout(&[("MCP_DEFAULT_CMD_TIMEOUT_MS", "0")]), None);
    assert_eq!(timeout(&[("MCP_DEFAULT_CMD_TIMEOUT_MS", "1500")]), Some(Duration::from_millis(1500)));
    assert_eq!(timeout(&[("MCP_DEFAULT_CMD_TIMEOUT_S", "7")]), Some(Duration::from_secs(7)));
    // The stronger source wins, whichever name it uses.
    let settings =
        from(&[("MCP_INTERACTIVE_CMD_TIMEOUT_MS", "5")], &[("MCP_INTERACTIVE_CMD_TIMEOUT_S", "5")], "").unwrap();
    assert_eq!(settings.interactive_timeout, Some(Duration::from_millis(5)));
    assert_eq!(from(&[("KEEP_ALIVE_INTERVAL", "0")], &[], "").unwrap().keep_alive_interval, None);
    from(&[("SAVE_INTERVAL", "whatever")], &[], "save_interval = 5000").unwrap();
}

#[test]
fn what_does_not_parse_is_named_with_its_source_and_what_is_accepted() {
    let check = |env: &[(&str, &str)], dotenv: &[(&str, &str)], toml: &str, expected: &str| {
        assert_eq!(from(env, dotenv, toml).unwrap_err().to_string(), expected);
    };
    check(
        &[("MCP_SYNC_TIMEOUT_S", "30s")],
        &[],
        "",
        r#"MCP_SYNC_TIMEOUT_S in the environment is "30s": a whole number of seconds is accepted"#,
    );
    check(
        &[],
        &[("IDLE_TIMEOUT", "-1")],
        "",
        r#"IDLE_TIMEOUT in .env is "-1": a whole number of milliseconds is accepted"#,
    );
    check(
        &[],
        &[],
        "max_queue_size = 0",
        r#"max_queue_size in orchestrator.toml is "0": a whole number of at least 1 is accepted"#,
    );
    check(&[("MCP_DEBUG", "maybe")], &[], "", r#"MCP_DEBUG in the environment is "maybe": true or false is accepted"#);
    check(
        &[("LOG_LEVEL", "loud")],
        &[],
        "",
        r#"LOG_LEVEL in the environment is "loud": error, warn, info, debug, trace, off or a tracing filter is accepted"#,
    );
    check(
        &[("MIN_CONNECTIONS_PER_SERVER", "9")],
        &[],
        "",
        "MIN_CONNECTIONS_PER_SERVER (9) is greater than MAX_CONNECTIONS_PER_SERVER (5)",
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let check = |toml: &str, expected: &str| assert_eq!(from(&[], &[], toml).unwrap_err().to_string(), expected);
    check(
        "# ours\nsync_timout_s = 3",
        r#"orchestrator.toml, line 2: unknown key "sync_timout_s"; did you mean "sync_timeout_s"?"#,
    );
    check(
        "MAX_QUEUE_SIZE = 3",
        r#"orchestrator.toml, line 1: unknown key "MAX_QUEUE_SIZE"; did you mean "max_queue_size"?"#,
    );
    check("zzz = 3", r#"orchestrator.toml, line 1: unknown key "zzz""#);
    check(
        "[plugins.logs]\nenabeld = true",
        r#"orchestrator.toml, line 2: unknown key "plugins.logs.enabeld"; did you mean "enabled"?"#,
    );
    check(
        "[plugins.logs.grants]\nserver = ['*']",
        r#"orchestrator.toml, line 2: unknown key "plugins.logs.grants.server"; did you mean "servers"?"#,
    );
    check(
        "[plugin_limits]\nmemory = 1",
        r#"orchestrator.toml, line 2: unknown key "plugin_limits.memory"; did you mean "memory_mb"?"#,
    );
    check(
        "data_dir = '/x'",
        "orchestrator.toml, line 1: data_dir cannot stand in a file of the data directory: set MCP_DATA_DIR",
    );
    check(
        "[idle_timeout]",
        "orchestrator.toml, line 1: idle_timeout must be a text, a number, true or false, or a list of texts",
    );
    let error = from(&[], &[], "a = 1\nb = = 2").unwrap_err();
    assert!(matches!(error, ConfigError::Toml { line: Some(2), .. }), "{error}");
}

#[test]
fn plugins_have_settings_grants_and_limits() {
    let settings = from(
        &[],
        &[],
        r#"
        [plugin_limits]
        memory_mb = 16
        compute_s = 2
        [plugins.monitoring]
        enabled = false
        settings = { top = 3 }
        [plugins.logs.grants]
        servers = ["tag:web"]
        exec = [["docker", "logs", "*"]]
        "#,
    )
    .unwrap();
    assert_eq!(settings.plugin_limits, PluginLimits { memory: 16 << 20, compute: Duration::from_secs(2) });
    let monitoring = settings.plugins.get("monitoring").unwrap();
    assert_eq!(monitoring.enabled, Some(false));
    assert_eq!(monitoring.settings.get("top"), Some(&3.into()));
    assert_eq!(monitoring.grants, None);
    let grants = settings.plugins.get("logs").unwrap().grants.as_ref().unwrap();
    assert_eq!(grants.exec, [["docker", "logs", "*"]]);
    for wrong in ["memory_mb = 0", "memory_mb = 5000", "compute_s = 0", "compute_s = 'x'"] {
        from(&[], &[], &format!("[plugin_limits]\n{wrong}")).unwrap_err();
    }
}

#[test]
fn a_path_may_begin_with_the_home_directory() {
    let check = |text: &str, expected: &str| assert_eq!(expand(text, Some("/home/op")), Path::new(expected), "{text}");
    check("~", "/home/op");
    check("~/x", "/home/op/x");
    check("$HOME/x", "/home/op/x");
    check("${HOME}/x", "/home/op/x");
    check("~other/x", "~other/x");
    check("$HOMER/x", "$HOMER/x");
    check("/a/~/b", "/a/~/b");
    let settings = from(&[("MCP_DATA_DIR", "~/data"), ("MCP_ALLOWED_ROOTS", "~/in:/srv, /opt")], &[], "").unwrap();
    assert_eq!(settings.data_dir, Path::new("/home/op/data"));
    assert_eq!(settings.allowed_roots, ["/home/op/in", "/srv", "/opt"].map(PathBuf::from));
    let settings = from(&[], &[], "allowed_roots = ['/srv', '/opt']").unwrap();
    assert_eq!(settings.allowed_roots, ["/srv", "/opt"].map(PathBuf::from));
    assert!(matches!(Settings::from_sources(&BTreeMap::new(), &BTreeMap::new(), None), Err(ConfigError::NoHome)));
}

#[test]
fn the_log_level_may_be_written_in_several_ways() {
    let level = |env: &[(&str, &str)]| from(env, &[], "").unwrap().log_level;
    assert_eq!(level(&[("LOG_LEVEL", "WARNING")]), "warn");
    assert_eq!(level(&[("LOG_LEVEL", "info,russh=debug")]), "info,russh=debug");
    assert_eq!(level(&[("MCP_DEBUG", "true")]), "debug");
    assert_eq!(level(&[("MCP_DEBUG", "1"), ("LOG_LEVEL", "error")]), "error");
}

#[test]
fn settings_never_print_the_master_key() {
    let settings = from(&[("MCP_MASTER_KEY", "hunter2")], &[], "").unwrap();
    assert_eq!(settings.master_key.as_deref(), Some("hunter2"));
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn loading_makes_the_directory_and_reads_what_is_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("a/b");
    let overrides = BTreeMap::from([("MCP_DATA_DIR".to_owned(), data.display().to_string())]);
    let settings = Settings::load(overrides.clone()).unwrap();
    assert_eq!(settings.data_dir, data);
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::write(data.join(".env"), "MCP_SYNC_TIMEOUT_S=11 # short\nMAX_QUEUE_SIZE='22'\n").unwrap();
    std::fs::write(data.join("orchestrator.toml"), "max_queue_size = 33\nidle_timeout = 44\n").unwrap();
    let settings = Settings::load(overrides.clone()).unwrap();
    assert_eq!((settings.sync_timeout, settings.max_queue_size), (Duration::from_secs(11), 22));
    assert_eq!(settings.idle_timeout, Duration::from_millis(44));
    assert!(std::env::var_os("MCP_SYNC_TIMEOUT_S").is_none(), "the file is not exported");
    std::fs::write(data.join(".env"), "MCP_MASTER_KEY='unclosed hunter2\n").unwrap();
    let error = Settings::load(overrides).unwrap_err().to_string();
    assert!(error.contains(".env: a line cannot be read") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named_with_what_to_do() {
    // A file stands where the directory should be; also root cannot make it then.
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = prepare_data_dir(&file.join("data")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("could not create the data directory {}", file.display())), "{error}");
    assert!(error.contains("set MCP_DATA_DIR"), "{error}");
    // /proc cannot be written to by anybody.
    let error = prepare_data_dir(Path::new("/proc/self")).unwrap_err().to_string();
    assert!(error.starts_with("could not write to the data directory /proc/self"), "{error}");
}

#[test]
fn every_setting_has_a_text_by_which_two_processes_compare_theirs() {
    let texts = from(&[], &[], "").unwrap().texts();
    let named = |name: &str| texts.iter().any(|(known, _)| *known == name);
    // Two names for seconds, one that only chooses a default level, and one that is ignored.
    let folded = ["MCP_DEFAULT_CMD_TIMEOUT_S", "MCP_INTERACTIVE_CMD_TIMEOUT_S", "MCP_DEBUG", "SAVE_INTERVAL"];
    let missing: Vec<_> =
        NAMES.iter().map(|(name, _)| *name).filter(|name| !named(name) && !folded.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn what_always_runs_detached_is_the_operators_word() {
    let toml = "[detach]\nservers = [\"build-*\"]\ncommands = [\"pg_dump *\"]\n";
    let env = BTreeMap::from([("MCP_DATA_DIR".to_owned(), "/d".to_owned())]);
    let settings = Settings::from_sources(&env, &BTreeMap::new(), Some(toml)).unwrap();
    assert_eq!(settings.detach.covers("build-1", &[], "ls"), Some("build-*"));
    let wrong = Settings::from_sources(&env, &BTreeMap::new(), Some("[detach]\nserver = []\n")).unwrap_err();
    let expected = "orchestrator.toml, line 2: unknown key \"detach.server\"; did you mean \"servers\"?";
    assert_eq!(wrong.to_string(), expected);
}
