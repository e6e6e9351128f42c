//! What one client may ask for: requests a second, requests and streams at one time. A client is a token, or an address where none is shown.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Holder;

/// Clients remembered at most; beyond that all new ones are taken for one.
const MOST: usize = 10_000;
/// A client who asked for nothing for so long is forgotten when room is needed.
const IDLE: Duration = Duration::from_secs(60);

/// What each client may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests a second, over time.
    pub requests_per_second: u32,
    /// Requests at once after a rest.
    pub request_burst: u32,
    /// Requests that are answered at one time.
    pub requests: usize,
    /// Streams that stand at one time.
    pub streams: usize,
}

/// Who a limit is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Client {
    /// The holder of a token.
    Token(Holder),
    /// An address; of IPv6 the first 64 bits, since one machine has all that follow.
    Address(IpAddr),
    /// A caller without an address.
    Unnamed,
}

impl Client {
    /// The client at an address.
    pub fn at(address: Option<IpAddr>) -> Self {
        match address.map(|a| a.to_canonical()) {
            None => Self::Unnamed,
            Some(IpAddr::V6(v6)) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::Address(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            Some(v4) => Self::Address(v4),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => write!(f, "the token {name}"),
            Self::Address(address) => write!(f, "the address {address}"),
            Self::Unnamed => f.write_str("this client"),
        }
    }
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Requests a second; the next is welcome after this time.
    Rate(Duration),
    /// Requests at one time.
    Requests,
    /// Streams at one time.
    Streams,
}

impl Over {
    /// Its label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate(_) => "rate",
            Self::Requests => "requests",
            Self::Streams => "streams",
        }
    }
}

/// A client's place while a request is answered.
#[derive(Debug)]
pub struct Place {
    _held: OwnedSemaphorePermit,
}

struct Account {
    rate: DefaultDirectRateLimiter,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    seen: Mutex<Instant>,
}

impl Account {
    fn new(limits: &ClientLimits) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(limits.requests_per_second));
        Self {
            rate: RateLimiter::direct(quota.allow_burst(at_least_one(limits.request_burst))),
            requests: Arc::new(Semaphore::new(limits.requests)),
            streams: Arc::new(Semaphore::new(limits.streams)),
            seen: Mutex::new(Instant::now()),
        }
    }

    fn is_idle(&self, limits: &ClientLimits) -> bool {
        let rests = self.seen.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > IDLE;
        rests
            && self.requests.available_permits() == limits.requests
            && self.streams.available_permits() == limits.streams
    }
}

struct Inner {
    limits: ClientLimits,
    known: Mutex<HashMap<Client, Arc<Account>>>,
    /// Of all who come when too many are known.
    crowd: Arc<Account>,
}

/// All clients. Cheap to clone.
#[derive(Clone)]
pub struct Clients(Arc<Inner>);

impl Clients {
    /// Nobody yet.
    pub fn new(limits: ClientLimits) -> Self {
        Self(Arc::new(Inner { limits, known: Mutex::default(), crowd: Arc::new(Account::new(&limits)) }))
    }

    /// The limits.
    pub fn limits(&self) -> &ClientLimits {
        &self.0.limits
    }

    /// Counts a request, and gives it a place until the answer is over.
    ///
    /// # Errors
    /// With the limit that was reached.
    pub fn enter(&self, client: &Client, stream: bool) -> Result<Place, Over> {
        let account = self.account(client);
        self.charge_to(&account)?;
        let (places, over) =
            if stream { (&account.streams, Over::Streams) } else { (&account.requests, Over::Requests) };
        places.clone().try_acquire_owned().map(|held| Place { _held: held }).map_err(|_| over)
    }

    /// Counts a request that gets no place.
    ///
    /// # Errors
    /// When there were too many.
    pub fn charge(&self, client: &Client) -> Result<(), Over> {
        self.charge_to(&self.account(client))
    }

    fn charge_to(&self, account: &Account) -> Result<(), Over> {
        let now = DefaultClock::default().now();
        account.rate.check().map_err(|until| Over::Rate(until.wait_time_from(now)))
    }

    fn account(&self, client: &Client) -> Arc<Account> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = known.get(client) {
            *account.seen.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return account.clone();
        }
        if known.len() >= MOST {
            known.retain(|_, account| !account.is_idle(&self.0.limits));
        }
        if known.len() >= MOST {
            return self.0.crowd.clone();
        }
        let account = Arc::new(Account::new(&self.0.limits));
        known.insert(client.clone(), account.clone());
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClientLimits = ClientLimits { requests_per_second: 10, request_burst: 5, requests: 2, streams: 1 };

    #[test]
    fn each_client_has_its_own_rate_and_is_told_when_to_come_back() {
        let clients = Clients::new(LIMITS);
        let (one, two) =
            (Client::at(Some("10.0.0.1".parse().unwrap())), Client::Token(Holder::Token("door".parse().unwrap())));
        for _ in 0..5 {
            clients.charge(&one).unwrap();
        }
        let Err(Over::Rate(wait)) = clients.charge(&one) else { panic!("the sixth was let in") };
        assert!(wait > Duration::from_millis(10) && wait <= Duration::from_millis(100), "{wait:?}");
        clients.charge(&two).unwrap();
        std::thread::sleep(wait + Duration::from_millis(5));
        clients.charge(&one).unwrap();
    }

    #[test]
    fn places_are_given_back() {
        let clients = Clients::new(ClientLimits { request_burst: 100, ..LIMITS });
        let client = Client::at(None);
        let held = (clients.enter(&client, false).unwrap(), clients.enter(&client, false).unwrap());
        assert_eq!(clients.enter(&client, false).unwrap_err(), Over::Requests);
        let stream = clients.enter(&client, true).unwrap();
        assert_eq!(clients.enter(&client, true).unwrap_err(), Over::Streams);
        drop((held, stream));
        clients.enter(&client, false).unwrap();
        clients.enter(&client, true).unwrap();
    }

    #[test]
    fn a_network_of_one_machine_is_one_client_and_memory_is_bounded() {
        let at = |text: &str| Client::at(Some(text.parse().unwrap()));
        assert_eq!(at("2001:db8:1:2:3::4"), at("2001:db8:1:2:ffff::1"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        let clients = Clients::new(LIMITS);
        for i in 0..MOST as u32 + 100 {
            let _ = clients.charge(&Client::Address(IpAddr::V4(i.into())));
        }
        assert_eq!(clients.0.known.lock().unwrap().len(), MOST);
        assert!(clients.charge(&at("9.9.9.9")).is_err(), "the crowd shares one rate");
    }
}
