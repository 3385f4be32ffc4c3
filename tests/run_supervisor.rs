//! `workspace run` with real processes below it: what the application is told, how it ends, what is left behind.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "support/staged.rs"]
mod staged;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use staged::{DEADLINE, SERVER, Stage, free_port, wait_until};
use workspace::application::{self, HealthCheck};
use workspace::run::outcome::{self, Step};
use workspace::run::state::Phase;

/// Not a test by itself: the process that the tests start.
#[test]
fn runner() {
    staged::runner();
}

#[test]
fn the_exit_code_is_the_applications_own() {
    for (start, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)] {
        let finished = Stage::new(start).run();
        assert_eq!(finished.status.code(), Some(code), "{start}: {}", finished.log);
        assert_eq!(finished.state.phase, Phase::Failed);
        assert!(finished.state.error.unwrap().ends_with("before it was ready"));
    }
}

#[test]
fn sigterm_reaches_the_application_and_its_code_comes_back() {
    let program = "import http.server, os, signal, sys\n\
        def end(*_):\n    open('ended', 'w').write('gracefully'); os._exit(5)\n\
        signal.signal(signal.SIGTERM, end)\n\
        http.server.HTTPServer(('0.0.0.0', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()\n";
    let stage = Stage::new("python3 app.py").file("app.py", program);
    let running = stage.start();
    let state = running.wait_for(Phase::Ready);
    assert_eq!((state.version, state.port), (Some(1), Some(stage.plan.port)));
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(5), "{}", finished.log);
    assert_eq!(finished.state.phase, Phase::Stopping);
    assert_eq!(stage.app_text("ended"), "gracefully");
}

#[test]
fn what_ignores_sigterm_is_killed_after_its_grace() {
    let stage = Stage::new("trap '' TERM; python3 -m http.server --bind 0.0.0.0 $PORT").set("RUNNER_GRACE", "0.5");
    let running = stage.start();
    running.wait_for(Phase::Ready);
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(137), "{}", finished.log);
    assert!(finished.log.contains("killed"), "{}", finished.log);
}

/// A shell dies of SIGTERM at once; the server it started must still get its time.
#[test]
fn the_grace_is_the_whole_groups() {
    let program = "import http.server, os, signal, time\n\
        def end(*_):\n    time.sleep(0.7); open('ended', 'w').write('late'); os._exit(0)\n\
        signal.signal(signal.SIGTERM, end)\n\
        http.server.HTTPServer(('0.0.0.0', int(os.environ['PORT'])), http.server.SimpleHTTPRequestHandler).serve_forever()\n";
    let stage = Stage::new("python3 app.py; echo over").file("app.py", program);
    let running = stage.start();
    running.wait_for(Phase::Ready);
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(143), "{}", finished.log);
    assert_eq!(stage.app_text("ended"), "late");
}

#[test]
fn orphans_are_reaped() {
    // The inner shell ends at once, so each `true` loses its parent and comes to the runner.
    let start = format!("for i in 1 2 3 4 5; do sh -c 'sh -c \"sleep 0.1; true\" &'; done; {SERVER}");
    let stage = Stage::new(&start);
    let running = stage.start();
    running.wait_for(Phase::Ready);
    let parent = running.child.id();
    wait_until("an end of all orphans", || {
        let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            (fields[1] == parent.to_string()).then(|| fields[0].to_owned())
        });
        let states: Vec<String> = children.collect();
        // The server alone is left, and no zombie.
        (states.len() == 1 && states[0] != "Z").then_some(())
    });
    running.signal("TERM");
    running.finish();
}

#[test]
fn what_never_answers_is_reported_with_what_listens() {
    let other = free_port();
    let stage =
        Stage::new(&format!("exec python3 -m http.server --bind 0.0.0.0 {other}")).set("RUNNER_READY_LIMIT", "2");
    let finished = stage.run();
    assert_eq!(finished.status.code(), Some(101));
    let reason = format!("did not become ready within 2 s: nothing listens on port {}", stage.plan.port);
    assert!(finished.log.contains(&reason), "{}", finished.log);
    assert!(finished.log.contains(&format!("0.0.0.0:{other}")), "{}", finished.log);
    assert_eq!(finished.state.phase, Phase::Failed);
}

#[test]
fn what_somebody_else_answers_does_not_count() {
    let stage = Stage::new(SERVER);
    let _other = std::net::TcpListener::bind(("127.0.0.1", stage.plan.port)).unwrap();
    let finished = stage.run();
    let reason = format!("another program here listens on port {}", stage.plan.port);
    assert!(finished.log.contains(&reason) && !finished.log.contains("ready on port"), "{}", finished.log);
    assert_eq!(finished.state.phase, Phase::Failed);
}

#[test]
fn the_health_path_decides() {
    let stage = Stage::new(SERVER)
        .plan(|plan| plan.health = Some(HealthCheck { path: "/missing".to_owned() }))
        .set("RUNNER_READY_LIMIT", "2");
    let finished = stage.run();
    assert!(finished.log.contains("GET /missing on port"), "{}", finished.log);
    assert!(finished.log.contains("answered 404"), "{}", finished.log);
}

#[test]
fn neither_install_nor_the_application_sees_our_settings() {
    let stage = Stage::new("env > start.env")
        .plan(|plan| plan.install = vec![application::Command::parse("env > install.env")])
        .set("S3_ACCESS_KEY", "made-up-key")
        .set("S3_SECRET_KEY", "made-up-secret")
        .set("AWS_SECRET_ACCESS_KEY", "made-up-secret")
        .set("STORAGE_MODE", "s3")
        .set("THEIRS", "goes through");
    let finished = stage.run();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.log);
    for name in ["install.env", "start.env"] {
        let text = stage.app_text(name);
        assert!(text.contains("THEIRS=goes through") && text.contains("HOST=0.0.0.0"), "{text}");
        for ours in ["S3_", "AWS_", "WORKSPACE_", "STORAGE_MODE", "made-up"] {
            assert!(!text.contains(ours), "{name}: {text}");
        }
    }
}

#[test]
fn a_failed_install_is_reported_with_its_last_lines() {
    let stage = Stage::new(SERVER).plan(|plan| {
        plan.install = vec![application::Command::parse("for i in $(seq 99); do echo line $i; done; exit 3")];
    });
    let finished = stage.run();
    assert!(finished.log.contains("RUN ERROR: install failed"), "{}", finished.log);
    assert!(finished.log.contains("ended with code 3"), "{}", finished.log);
    let tail = finished.log.lines().find(|line| line.starts_with("TAIL")).unwrap();
    assert!(tail.starts_with("TAIL: line 50|") && tail.ends_with("line 99"), "{tail}");
    assert!(finished.log.contains("line 1\n"), "the log has it whole: {}", finished.log);
}

#[test]
fn an_install_that_hangs_is_ended_with_all_it_started() {
    let stage = Stage::new(SERVER)
        .plan(|plan| plan.install = vec![application::Command::parse("sleep 777.5 & sleep 777.5")])
        .set("RUNNER_INSTALL_LIMIT", "0.5");
    let finished = stage.run();
    assert!(finished.log.contains("took longer than"), "{}", finished.log);
    let left = Command::new("pgrep").args(["-f", "sleep 777.5"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[test]
fn a_stop_during_install_is_heeded() {
    let stage =
        Stage::new(SERVER).plan(|plan| plan.install = vec![application::Command::parse("touch begun; sleep 888")]);
    let running = stage.start();
    wait_until("the install", || stage.path("app/begun").exists().then_some(()));
    running.signal("TERM");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(143), "{}", finished.log);
}

#[test]
fn a_restart_installs_only_what_changed_and_needs_no_store() {
    let stage = Stage::new("exit 0").file("lock", "1").plan(|plan| {
        plan.install = vec![application::Command::parse("echo i >> installs")];
        plan.build = vec![application::Command::parse("echo b >> builds")];
        plan.inputs = vec!["lock".to_owned()];
    });
    stage.run();
    stage.run();
    assert_eq!((stage.app_text("installs"), stage.app_text("builds")), ("i\n".into(), "b\n".into()));
    // A new version with the same lock file is built, not installed.
    stage.publish(2);
    stage.run();
    assert_eq!((stage.app_text("installs"), stage.app_text("builds")), ("i\n".into(), "b\nb\n".into()));
    // Without the store, what is there is started, and said.
    std::fs::remove_file(stage.path("source/resolved.json")).unwrap();
    let finished = stage.run();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.log);
    assert!(finished.log.contains("starting myapp@2, which is here already"), "{}", finished.log);
    // A lock file that changed is installed again.
    let stage = stage.file("lock", "2");
    stage.publish(3);
    stage.run();
    assert_eq!(stage.app_text("installs"), "i\ni\n");
}

#[test]
fn without_a_store_and_without_a_tree_nothing_starts() {
    let stage = Stage::new("exit 0");
    std::fs::remove_file(stage.path("source/resolved.json")).unwrap();
    let finished = stage.run();
    assert!(finished.log.contains("RUN ERROR: can't fetch `myapp`"), "{}", finished.log);
    assert_eq!(finished.state.phase, Phase::Failed);
}

#[test]
fn an_interrupt_is_passed_on_as_it_is() {
    let stage = Stage::new(&format!("trap 'exit 9' INT; {}", SERVER.replace("exec ", "")));
    let running = stage.start();
    running.wait_for(Phase::Ready);
    running.signal("INT");
    let finished = running.finish();
    assert_eq!(finished.status.code(), Some(9), "{}", finished.log);
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let finished = Stage::new("no-such-program --x").run();
    assert!(finished.log.contains("`no-such-program` is neither installed in node_modules/.bin"), "{}", finished.log);
}

#[test]
fn a_held_run_releases_and_starts_when_told() {
    let stage = Stage::new(SERVER)
        .plan(|plan| {
            plan.build = vec![application::Command::parse("echo built")];
            plan.release = Some(application::Command::parse("echo $HOST $PORT >> releases; env > release.env"));
        })
        .set("S3_SECRET_KEY", "made-up-secret")
        .set("RUNNER_HOLD", "1");
    let running = stage.start();
    let held = running.wait_for(Phase::Held);
    assert!(!held.released && held.pid.is_none());
    let done = stage.proceed("release");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let held = wait_until("the release", || running.state.read().ok().filter(|state| state.released));
    assert_eq!(held.phase, Phase::Held);
    assert_eq!(stage.app_text("releases"), format!("0.0.0.0 {}\n", stage.plan.port));
    assert!(!stage.app_text("release.env").contains("made-up-secret"));
    assert!(stage.proceed("start").status.success());
    let ready = running.wait_for(Phase::Ready);
    assert!(ready.released);
    // Nothing waits any more.
    let refused = stage.proceed("start");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4));
    assert!(text.contains("nothing is held here: the phase is ready"), "{text}");
    running.signal("TERM");
    running.finish();
    assert_eq!(stage.outcome().step, Step::Stopped);
    // The same container again: what was told once needs no telling.
    let running = stage.start();
    assert!(running.wait_for(Phase::Ready).released);
    assert_eq!(stage.app_text("releases").lines().count(), 1);
    running.signal("TERM");
    running.finish();
    // Another version is held anew.
    stage.publish(2);
    let running = stage.start();
    assert!(!running.wait_for(Phase::Held).released);
    let told = Instant::now();
    running.signal("TERM");
    let finished = running.finish();
    assert!(told.elapsed() < Duration::from_secs(5));
    assert_eq!(finished.status.code(), Some(143), "{}", finished.log);
    assert_eq!(stage.outcome().step, Step::Stopped);
}

#[test]
fn an_order_from_an_earlier_life_is_not_followed() {
    let stage = Stage::new(SERVER).set("RUNNER_HOLD", "1");
    std::fs::create_dir(stage.path("state")).unwrap();
    std::fs::write(stage.path("state/proceed.json"), "\"start\"").unwrap();
    let running = stage.start();
    running.wait_for(Phase::Held);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(running.state.read().unwrap().phase, Phase::Held);
    running.signal("TERM");
    running.finish();
}

#[test]
fn a_release_command_that_fails_or_hangs_ends_the_run() {
    for (command, limit, reason) in
        [("echo no database; exit 4", "20", "ended with code 4"), ("echo waiting; sleep 60", "0.5", "took longer than")]
    {
        let stage = Stage::new(SERVER)
            .plan(|plan| plan.release = Some(application::Command::parse(command)))
            .set("RUNNER_HOLD", "1")
            .set("RUNNER_RELEASE_LIMIT", limit);
        let running = stage.start();
        running.wait_for(Phase::Held);
        assert!(stage.proceed("release").status.success());
        let finished = running.finish();
        assert_eq!(finished.status.code(), Some(101), "{}", finished.log);
        let outcome = stage.outcome();
        assert_eq!((outcome.step, outcome.tail.len()), (Step::Release, 1));
        assert!(outcome.reason.contains(reason), "{outcome:?}");
        assert!(!outcome.out_of_memory);
    }
}

#[test]
fn another_process_is_ready_once_it_stays_up() {
    let stage = Stage::new("exit 9")
        .plan(|plan| {
            plan.processes.insert("worker".to_owned(), application::Command::parse("echo $PORT > port; sleep 60"));
        })
        .set("RUNNER_PROCESS", "worker");
    let running = stage.start();
    let state = running.wait_for(Phase::Ready);
    assert_eq!((state.process.as_str(), state.port), ("worker", None));
    assert_eq!(stage.app_text("port").trim(), stage.plan.port.to_string());
    let healthy = stage.workspace(&["health"]).output().unwrap();
    assert!(healthy.status.success(), "{}", String::from_utf8_lossy(&healthy.stdout));
    running.signal("TERM");
    assert_eq!(running.finish().status.code(), Some(143));

    let ended = stage.set("RUNNER_PROCESS", "clock");
    let finished = ended.run();
    assert!(finished.log.contains("has no process `clock`; it has `web`, `worker`"), "{}", finished.log);
    assert_eq!(ended.outcome().step, Step::Start);
}

#[test]
fn a_process_that_ends_at_once_was_never_ready() {
    let stage = Stage::new("exit 0")
        .plan(|plan| {
            plan.processes.insert("worker".to_owned(), application::Command::parse("exit 3"));
        })
        .set("RUNNER_PROCESS", "worker");
    assert_eq!(stage.run().status.code(), Some(3));
    let outcome = stage.outcome();
    assert_eq!((outcome.step, outcome.was_ready, outcome.exit_code), (Step::Run, false, Some(3)));
}

#[test]
fn last_words_name_the_step_and_go_with_the_next_start() {
    let stage = Stage::new("exit 7").plan(|plan| {
        plan.install = vec![application::Command::parse("for i in $(seq 99); do echo line $i; done; test -e ../fixed")];
    });
    assert_eq!(stage.run().status.code(), Some(101));
    let outcome = stage.outcome();
    assert_eq!((outcome.step, outcome.tail.len(), outcome.version), (Step::Install, 50, Some(1)));
    assert_eq!(outcome.tail.last().unwrap(), "line 99");
    assert_eq!(outcome.row.as_deref(), Some("row-1"));
    assert!(outcome.hint.contains("workspace upload myapp"), "{outcome:?}");
    std::fs::write(stage.path("fixed"), "").unwrap();
    assert_eq!(stage.run().status.code(), Some(7));
    let outcome = stage.outcome();
    assert_eq!((outcome.step, outcome.was_ready, outcome.exit_code), (Step::Run, false, Some(7)));
    assert!(outcome.reason.ends_with("ended with code 7 before it was ready"), "{outcome:?}");
    // Not asked to, after it was ready.
    let stage = stage.plan(|plan| plan.start = Some(application::Command::parse(SERVER)));
    stage.publish(2);
    let running = stage.start();
    let state = running.wait_for(Phase::Ready);
    assert!(!stage.path("app").join(outcome::PATH).exists());
    assert!(Command::new("kill").args(["-KILL", &state.pid.unwrap().to_string()]).status().unwrap().success());
    assert_eq!(running.finish().status.code(), Some(137));
    let outcome = stage.outcome();
    assert_eq!((outcome.step, outcome.was_ready, outcome.exit_code), (Step::Run, true, Some(137)));
}

#[test]
fn last_words_say_what_listens_and_what_was_missing() {
    let other = free_port();
    let stage =
        Stage::new(&format!("exec python3 -m http.server --bind 0.0.0.0 {other}")).set("RUNNER_READY_LIMIT", "2");
    stage.run();
    let outcome = stage.outcome();
    assert_eq!(outcome.step, Step::Ready);
    assert!(outcome.listening.unwrap().contains(&format!("0.0.0.0:{other}")));

    let stage = Stage::new("exit 0");
    std::fs::remove_file(stage.path("source/resolved.json")).unwrap();
    stage.run();
    let outcome = stage.outcome();
    assert_eq!(outcome.step, Step::Fetch);
    assert!(outcome.reason.contains("No such file"), "{outcome:?}");
}

#[test]
fn the_state_is_followed_line_by_line_until_the_end() {
    let stage = Stage::new(SERVER).set("RUNNER_HOLD", "1");
    // Begun before there is anything to follow.
    let mut follower = stage.workspace(&["status", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().unwrap()));
    let (sender, seen) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in lines {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            let _ = sender.send((Instant::now(), line));
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    let running = stage.start();
    let await_line = |what: &str, fits: &dyn Fn(&serde_json::Value) -> bool| loop {
        let (at, line) = seen.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no line: {what}"));
        if fits(&line) {
            break (at, line);
        }
    };
    let (_, line) = await_line("held", &|line| line["phase"] == "held");
    assert_eq!((&line["released"], &line["process"]), (&false.into(), &"web".into()));
    assert!(stage.proceed("release").status.success());
    await_line("released", &|line| line["phase"] == "held" && line["released"] == true);
    assert!(stage.proceed("start").status.success());
    let (_, line) = await_line("ready", &|line| line["phase"] == "ready");
    assert_eq!(line["healthy"], true);
    // Without a change, a beat.
    let (_, line) = await_line("a beat", &|line| line["phase"] == "ready");
    assert_eq!(line["healthy"], true);
    running.signal("TERM");
    await_line("stopping", &|line| line["phase"] == "stopping");
    running.finish();
    assert!(follower.wait().unwrap().success());
}

#[test]
fn following_what_never_starts_ends_with_an_error() {
    let stage = Stage::new(SERVER);
    let output = stage.workspace(&["status", "--follow", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing runs here"));
}
