//! MemStats from servers that answer, lie, hang or send too much.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::super::profile::tests::STATS;
use super::*;

/// Serves each connection by what `answer` does to it, told the path that was asked for.
fn server(answer: impl Fn(&mut TcpStream, &str) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            answer(&mut stream, &path);
        }
    });
    address
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    // The client may have had enough.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    );
}

fn client(address: SocketAddr) -> Client {
    Client::new(address.to_string().parse().unwrap())
}

#[test]
fn a_profile_is_read_and_its_page_kept() {
    let address = server(|stream, path| {
        assert_eq!(path, "/debug/pprof/heap?debug=1");
        reply(
            stream,
            "200 OK",
            "",
            &format!(
                "heap profile: 1: 9000000 [1: 9000000] @ heap/1048576\n1: 9000000 [1: 9000000] @ 0x1\n\n{STATS}"
            ),
        );
    });
    let mut client = client(address);
    let reading = client.read().unwrap();
    assert_eq!(reading.stats.heap_released, 50);
    assert_eq!(reading.in_use.unwrap().bytes, 9_000_000);
    assert_eq!(client.known, Some(0));
    assert!(client.read().is_ok());
}

#[test]
fn vars_are_asked_for_where_there_is_no_profile() {
    let address = server(|stream, path| match path {
        "/debug/vars" => reply(
            stream,
            "200 OK",
            "",
            r#"{"memstats":{"HeapAlloc":1,"HeapSys":3,"HeapIdle":1,"HeapInuse":2,
            "HeapReleased":0,"StackInuse":0,"StackSys":0,"MSpanSys":0,"MCacheSys":0,"BuckHashSys":0,"GCSys":0,
            "OtherSys":0,"Sys":4,"NextGC":0,"NumGC":0}}"#,
        ),
        _ => reply(stream, "404 Not Found", "", "no"),
    });
    let mut client = client(address);
    assert_eq!(client.read().unwrap().stats.heap_inuse, 2);
    assert_eq!(client.known, Some(1));
}

#[test]
fn nothing_but_404_names_what_was_asked_for() {
    let address = server(|stream, _| reply(stream, "404 Not Found", "", ""));
    let error = client(address).read().unwrap_err();
    assert!(
        error.contains("/debug/pprof/heap")
            && error.contains("/debug/vars")
            && error.contains("import net/http/pprof"),
        "{error}"
    );
}

#[test]
fn redirects_are_told_and_not_followed() {
    let elsewhere = server(|_, _| panic!("followed"));
    let address = server(move |stream, _| {
        reply(
            stream,
            "302 Found",
            &format!("Location: http://{elsewhere}/x\r\n"),
            "",
        );
    });
    let error = client(address).read().unwrap_err();
    assert!(
        error.contains(&format!(
            "redirects (302) to http://{elsewhere}/x, which is not followed"
        )),
        "{error}"
    );
}

#[test]
fn garbage_is_told_from_figures() {
    for (body, why) in [
        ("\u{1}\u{2}\u{3}garbage", "no heap profile of a Go program"),
        ("", "it is empty"),
        (
            "heap profile: 0: 0 [0: 0] @ heap/1048576\n# HeapIdle = 5\n",
            "1 of the 14",
        ),
    ] {
        let address = server(move |stream, _| reply(stream, "200 OK", "", body));
        let error = client(address).read().unwrap_err();
        assert!(
            error.contains("of no use") && error.contains(why),
            "{error}"
        );
    }
    let address = server(|stream, _| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
    let error = client(address).read().unwrap_err();
    assert!(error.contains("no answer that is HTTP"), "{error}");
    let address = server(|stream, _| reply(stream, "500 Oh", "", ""));
    assert!(client(address).read().unwrap_err().contains("status 500"));
    let address = server(|stream, _| reply(stream, "401 Who", "", ""));
    assert!(
        client(address)
            .read()
            .unwrap_err()
            .contains("wants a login")
    );
}

#[test]
fn a_gigabyte_is_cut_off() {
    let address = server(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nheap profile: 0: 0 [0: 0] @ heap/1048576\n");
        let block = vec![b'x'; 1 << 20];
        // Until nobody reads any more.
        while stream.write_all(&block).is_ok() {}
    });
    let error = client(address).read().unwrap_err();
    assert!(
        error.contains("more than 64") || error.contains("no whole answer"),
        "{error}"
    );
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = client(listener.local_addr().unwrap()).read().unwrap_err();
    assert!(error.contains("no whole answer within 3"), "{error}");
}

#[test]
fn where_nobody_listens_that_is_said() {
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = client(address).read().unwrap_err();
    assert!(error.contains("nothing listens there"), "{error}");
}
