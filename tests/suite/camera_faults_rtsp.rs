//! A camera of bare sockets that breaks the protocol as it is told: what no RTSP library would do.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UdpSocket, tcp::OwnedWriteHalf},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::camera_faults_packets::Recording;

/// What a camera does with those who connect.
#[derive(Clone)]
pub enum Behaviour {
    /// Takes the connection and says nothing.
    Mute,
    /// Takes the connection and closes it.
    HangUp,
    /// Answers a method, or every one, with this status.
    Status(Option<&'static str>, u16),
    /// Sends whoever asks to another URL.
    Redirect(String),
    /// Describes sound alone.
    AudioOnly,
    /// Describes the stream with more bytes than it sends.
    EndlessDescription,
    /// Plays.
    Play(Arc<Recording>, f64, Twist),
}

/// What is wrong with what is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twist {
    Nothing,
    /// No packet at all.
    Silent,
    /// Random payloads.
    Garbage,
    /// All pictures but those that decoding can begin with.
    NoKeys,
    /// Packets of one picture that never ends, as fast as they are taken.
    Endless,
    /// Half a message after a second, then the end of the connection.
    CutShort,
    /// Half a message after a second, then silence.
    HalfAndSilent,
    /// Half a message after a second, then a byte now and then.
    HalfAndDribble,
    /// Time stamps that jump to and fro, also over the end of their range.
    ClockJumps,
    /// Each twentieth packet lost, neighbours exchanged in every third picture.
    LossAndReordering,
    /// Reports are wanted by another host.
    SourceElsewhere(SocketAddr),
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    passwords: AtomicU64,
    frozen: AtomicBool,
}

/// A listening camera; dropping it closes everything.
pub struct RawCamera {
    pub addr: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    counts: Arc<Counts>,
    /// Ends the present connections.
    cut: Arc<Mutex<CancellationToken>>,
    listening: Option<JoinHandle<()>>,
}

impl RawCamera {
    pub async fn new(behaviour: Behaviour) -> Self {
        let mut camera = Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            behaviour: Arc::new(Mutex::new(behaviour)),
            counts: Arc::default(),
            cut: Arc::default(),
            listening: None,
        };
        camera.listen().await;
        camera
    }

    async fn listen(&mut self) {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        self.addr = listener.local_addr().unwrap();
        let (behaviour, counts, cut) = (self.behaviour.clone(), self.counts.clone(), self.cut.clone());
        self.listening = Some(tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                counts.connections.fetch_add(1, Ordering::Relaxed);
                let (now, counts, cut) =
                    (behaviour.lock().unwrap().clone(), counts.clone(), cut.lock().unwrap().clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        _ = serve(stream, now, &counts) => {}
                    }
                });
            }
        }));
    }

    pub fn url(&self) -> String {
        format!("rtsp://{}/live", self.addr)
    }

    /// From now on it behaves like this; those who are connected are dropped.
    pub fn becomes(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
        self.drop_clients();
    }

    pub fn drop_clients(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    /// Keeps connections and sends nothing.
    pub fn freeze(&self, on: bool) {
        self.counts.frozen.store(on, Ordering::Relaxed);
    }

    /// Nobody listens any more.
    pub async fn die(&mut self) {
        if let Some(task) = self.listening.take() {
            task.abort();
            let _ = task.await;
        }
        self.drop_clients();
    }

    /// Listens again on the same port.
    pub async fn revive(&mut self) {
        self.listen().await;
    }

    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// How often somebody showed a password.
    pub fn passwords(&self) -> u64 {
        self.counts.passwords.load(Ordering::Relaxed)
    }
}

impl Drop for RawCamera {
    fn drop(&mut self) {
        if let Some(task) = self.listening.take() {
            task.abort();
        }
        self.drop_clients();
    }
}

/// Where packets go.
enum Way {
    Tcp,
    Udp(UdpSocket, SocketAddr),
}

async fn serve(stream: TcpStream, behaviour: Behaviour, counts: &Arc<Counts>) -> std::io::Result<()> {
    let peer = stream.peer_addr()?;
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut way = Way::Tcp;
    match &behaviour {
        Behaviour::Mute => std::future::pending().await,
        Behaviour::HangUp => return Ok(()),
        _ => {}
    }
    loop {
        let Some((method, headers)) = request(&mut read).await? else { return Ok(()) };
        let header = |name: &str| {
            headers.iter().find_map(|line| line.strip_prefix(name)).map(|value| value.trim_start_matches(':').trim())
        };
        counts.passwords.fetch_add(u64::from(header("Authorization").is_some()), Ordering::Relaxed);
        let seq = header("CSeq").unwrap_or("0").to_owned();
        let answer = |status: &str, more: &str, body: &str| {
            format!(
                "RTSP/1.0 {status}\r\nCSeq: {seq}\r\nSession: 4711;timeout=60\r\n{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let plain = match &behaviour {
            Behaviour::Status(wanted, code) if wanted.is_none_or(|wanted| wanted == method) => {
                let more = if *code == 401 { "WWW-Authenticate: Basic realm=\"camera\"\r\n" } else { "" };
                Some(answer(&format!("{code} Told So"), more, ""))
            }
            Behaviour::Redirect(to) if method == "DESCRIBE" => {
                Some(answer("302 Moved", &format!("Location: {to}\r\n"), ""))
            }
            _ => None,
        };
        if let Some(text) = plain {
            write.write_all(text.as_bytes()).await?;
            continue;
        }
        match method.as_str() {
            "OPTIONS" => {
                let methods = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n";
                write.write_all(answer("200 OK", methods, "").as_bytes()).await?;
            }
            "DESCRIBE" if matches!(behaviour, Behaviour::EndlessDescription) => {
                let head = "RTSP/1.0 200 OK\r\nCSeq: ".to_owned()
                    + &seq
                    + "\r\nContent-Type: application/sdp\r\nContent-Length: 2000000000\r\n\r\n";
                write.write_all(head.as_bytes()).await?;
                loop {
                    write.write_all(&[b'x'; 1024]).await?;
                    sleep(Duration::from_millis(5)).await;
                }
            }
            "DESCRIBE" => {
                let text = answer("200 OK", "Content-Type: application/sdp\r\n", &description(&behaviour));
                write.write_all(text.as_bytes()).await?;
            }
            "SETUP" => {
                let wanted = header("Transport").unwrap_or_default();
                let transport = match wanted.split(';').find_map(|part| part.strip_prefix("client_port=")) {
                    Some(ports) => {
                        let socket = UdpSocket::bind("127.0.0.1:0").await?;
                        let own = socket.local_addr()?.port();
                        let to: u16 = ports.split('-').next().and_then(|p| p.parse().ok()).unwrap_or(9);
                        way = Way::Udp(socket, SocketAddr::new(peer.ip(), to));
                        let (mut from, mut server) = (String::new(), format!("{own}-{}", own.wrapping_add(1)));
                        if let Behaviour::Play(_, _, Twist::SourceElsewhere(decoy)) = &behaviour {
                            from = format!(";source={}", decoy.ip());
                            server = format!("{}-{}", decoy.port(), decoy.port());
                        }
                        format!("RTP/AVP;unicast;client_port={ports};server_port={server}{from}")
                    }
                    None => "RTP/AVP/TCP;unicast;interleaved=0-1".to_owned(),
                };
                write.write_all(answer("200 OK", &format!("Transport: {transport}\r\n"), "").as_bytes()).await?;
            }
            "PLAY" => {
                write.write_all(answer("200 OK", "", "").as_bytes()).await?;
                if let Behaviour::Play(recording, fps, twist) = &behaviour {
                    tokio::select! {
                        ended = play(&mut write, &way, recording, *fps, *twist, counts) => return ended,
                        ended = ignore(&mut read) => return ended,
                    }
                }
            }
            _ => write.write_all(answer("200 OK", "", "").as_bytes()).await?,
        }
    }
}

/// The next request: its method and its header lines; `None` at the end.
async fn request(read: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Option<(String, Vec<String>)>> {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => break,
            _ => lines.push(line),
        }
    }
    let method = lines[0].split(' ').next().unwrap_or_default().to_owned();
    Ok(Some((method, lines)))
}

/// Reads what the client still has to say, until it goes.
async fn ignore(read: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    while read.read(&mut bytes).await? > 0 {}
    Ok(())
}

fn description(behaviour: &Behaviour) -> String {
    let head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n";
    let media = match behaviour {
        Behaviour::AudioOnly => "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=control:track1\r\n".to_owned(),
        Behaviour::Play(recording, ..) => format!(
            "m=video 0 RTP/AVP {p}\r\na=rtpmap:{p} {}/90000\r\na=control:track1\r\n",
            recording.encoding,
            p = recording.payload
        ),
        _ => "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n".to_owned(),
    };
    format!("{head}{media}")
}

/// Plays until the client goes.
async fn play(
    write: &mut OwnedWriteHalf,
    way: &Way,
    recording: &Recording,
    fps: f64,
    twist: Twist,
    counts: &Counts,
) -> std::io::Result<()> {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut number, mut time) = (0_u16, 90_000_u32);
    let began = tokio::time::Instant::now();
    if twist == Twist::Silent {
        std::future::pending::<()>().await;
    }
    for (turn, unit) in recording.units.iter().cycle().enumerate() {
        tokio::time::sleep_until(began + Duration::from_secs_f64(turn as f64 / fps)).await;
        time = match twist {
            Twist::ClockJumps if turn % 20 == 10 => time.wrapping_add(u32::MAX / 2),
            Twist::ClockJumps if turn % 20 == 15 => time.wrapping_sub(900_000),
            _ => time.wrapping_add((90_000.0 / fps) as u32),
        };
        if counts.frozen.load(Ordering::Relaxed) || (twist == Twist::NoKeys && unit.key) {
            continue;
        }
        let half = matches!(twist, Twist::CutShort | Twist::HalfAndSilent | Twist::HalfAndDribble);
        if half && began.elapsed() > Duration::from_secs(1) {
            write.write_all(&[b'$', 0, 4, 0, 0x80, 96, 1]).await?;
            if twist == Twist::HalfAndDribble {
                loop {
                    sleep(Duration::from_millis(300)).await;
                    write.write_all(&[0]).await?;
                }
            }
            if twist == Twist::HalfAndSilent {
                std::future::pending::<()>().await;
            }
            return Ok(());
        }
        let mut packets = Vec::new();
        for packet in &unit.packets {
            let mut packet = packet.clone();
            number = number.wrapping_add(1);
            packet[2..4].copy_from_slice(&number.to_be_bytes());
            packet[4..8].copy_from_slice(&time.to_be_bytes());
            if twist == Twist::Garbage {
                packet[12..].iter_mut().for_each(|byte| *byte = random.u8(..));
            }
            if twist == Twist::Endless {
                endless(write, &packet[..12], number).await?;
            }
            packets.push(packet);
        }
        if twist == Twist::LossAndReordering {
            packets.retain(|packet| packet[3] % 20 != 3);
            if turn % 3 == 1 {
                packets.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
            }
        }
        for packet in packets {
            send(write, way, &packet).await?;
        }
    }
    Ok(())
}

/// Fragments of one picture, for ever.
async fn endless(write: &mut OwnedWriteHalf, head: &[u8], mut number: u16) -> std::io::Result<()> {
    for turn in 0_u64.. {
        number = number.wrapping_add(1);
        let mut packet = head.to_vec();
        packet[1] &= 0x7f;
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        // A fragment of a slice: the first begins it, none ends it.
        packet.extend([0x7c, if turn == 0 { 0x85 } else { 0x05 }]);
        packet.extend([0x5a; 1400]);
        send(write, &Way::Tcp, &packet).await?;
        if turn % 64 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(())
}

async fn send(write: &mut OwnedWriteHalf, way: &Way, packet: &[u8]) -> std::io::Result<()> {
    match way {
        Way::Tcp => {
            let mut framed = vec![b'$', 0];
            framed.extend((packet.len() as u16).to_be_bytes());
            framed.extend(packet);
            write.write_all(&framed).await
        }
        Way::Udp(socket, to) => socket.send_to(packet, to).await.map(drop),
    }
}
