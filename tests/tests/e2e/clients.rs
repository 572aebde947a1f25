//! Real clients do through the proxy whatever they do without it.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use redis::Commands;
use redis_sentinel_tests::tools;
use redis_sentinel_tests::trial::Trial;

fn succeeds(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn script(program: &str, file: &str, library: (&str, &str)) -> Result<()> {
    let trial = Trial::start()?;
    let mut command = Command::new(program);
    command
        .arg(tools::root().join("tests/clients").join(file))
        .arg(trial.envoy.port.to_string());
    command.env(library.0, tools::root().join(library.1));
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    assert_eq!(succeeds(&output), "ok\n");
    Ok(())
}

#[test]
fn redis_py() -> Result<()> {
    script(
        "python3",
        "redis_py.py",
        ("PYTHONPATH", "target/tools/python"),
    )
}

#[test]
fn ioredis() -> Result<()> {
    script(
        "node",
        "ioredis.js",
        ("NODE_PATH", "target/tools/node/node_modules"),
    )
}

/// Runs `redis-cli` with arguments and input.
fn cli(port: u16, arguments: &[&str], input: &[u8]) -> Result<String> {
    let mut command = Command::new(tools::redis("redis-cli"));
    command.arg("-p").arg(port.to_string()).args(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no input")?;
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    writer.join().ok().context("the writer panicked")??;
    Ok(succeeds(&output).trim_end().to_owned())
}

#[test]
fn redis_cli() -> Result<()> {
    let trial = Trial::start()?;
    let port = trial.envoy.port;
    assert_eq!(cli(port, &["set", "k", "v"], b"")?, "OK");
    assert_eq!(
        cli(port, &[], b"MULTI\nINCR n\nINCRBY n 41\nEXEC\n")?,
        "OK\nQUEUED\nQUEUED\n1\n42"
    );
    assert!(cli(port, &["-3", "hello"], b"")?.contains("proto 3"));
    assert_eq!(
        cli(
            port,
            &["eval", "return redis.call('GET', KEYS[1])", "1", "k"],
            b""
        )?,
        "v"
    );
    let pipe: String = (0..20_000)
        .map(|i| format!("SET pipe:{i} {i}\r\n"))
        .collect();
    assert!(cli(port, &["--pipe"], pipe.as_bytes())?.contains("errors: 0, replies: 20000"));
    let value = vec![b'x'; 64 << 20];
    assert_eq!(cli(port, &["-x", "set", "large"], &value)?, "OK");
    assert_eq!(cli(port, &["get", "large"], b"")?.len(), value.len());
    Ok(())
}

#[test]
fn redis_rs() -> Result<()> {
    let trial = Trial::start()?;
    for protocol in ["resp2", "resp3"] {
        let url = format!(
            "redis://127.0.0.1:{}/?protocol={protocol}",
            trial.envoy.port
        );
        let client = redis::Client::open(url)?;
        redis_rs_commands(&mut client.get_connection()?)?;
        redis_rs_waits(&client)?;
    }
    Ok(())
}

fn redis_rs_commands(connection: &mut redis::Connection) -> Result<()> {
    redis::cmd("FLUSHALL").exec(connection)?;
    let mut pipe = redis::pipe();
    for i in 0..1000 {
        pipe.incr("n", i).ignore();
    }
    let (sum,): (i64,) = pipe.get("n").query(connection)?;
    assert_eq!(sum, 999 * 1000 / 2);
    let both: (String, i64) = redis::pipe()
        .atomic()
        .set("k", 1)
        .incr("k", 41)
        .query(connection)?;
    assert_eq!(both, ("OK".to_owned(), 42));
    let scripted: i64 = redis::Script::new("return redis.call('INCR', KEYS[1])")
        .key("k")
        .invoke(connection)?;
    assert_eq!(scripted, 43);
    let id: Option<String> = connection.xadd("stream", "*", &[("field", "value")])?;
    let read: Option<redis::streams::StreamReadReply> = connection.xread(&["stream"], &["0"])?;
    let read = read.context("the stream has an entry")?;
    assert_eq!(id.as_ref(), Some(&read.keys[0].ids[0].id));
    let value: Vec<u8> = (0..64_u32 << 20)
        .map(|i| i.to_le_bytes()[i as usize % 4])
        .collect();
    let () = connection.set("large", &value)?;
    assert!(
        connection.get::<_, Vec<u8>>("large")? == value,
        "64 MB came back changed"
    );
    Ok(())
}

fn redis_rs_waits(client: &redis::Client) -> Result<()> {
    let (mut other, mut waiting) = (client.get_connection()?, client.get_connection()?);
    let blocked = thread::spawn(move || waiting.blpop::<_, (String, String)>("list", 10.0));
    thread::sleep(Duration::from_millis(100));
    let () = other.rpush("list", "late")?;
    assert_eq!(
        blocked.join().ok().context("panicked")??,
        ("list".to_owned(), "late".to_owned())
    );
    let mut subscriber = client.get_connection()?;
    let mut channel = subscriber.as_pubsub();
    channel.subscribe("channel")?;
    let receivers: i64 = other.publish("channel", "hello")?;
    assert_eq!(receivers, 1);
    assert_eq!(channel.get_message()?.get_payload::<String>()?, "hello");
    Ok(())
}
