//! The bytes' way: TCP, TLS or a Unix socket, with timeouts on everything that could wait.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;

use crate::redis::options::{Address, RedisOptions};

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "redis-tls")]
    Tls(Box<super::tls::TlsStream>),
}

impl Stream {
    /// # Errors
    /// What stands in the way, for people.
    pub fn connect(address: &Address, options: &RedisOptions) -> Result<Self, String> {
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(|error| error.to_string())?;
                stream.set_read_timeout(Some(options.reply_timeout)).map_err(|error| error.to_string())?;
                stream.set_write_timeout(Some(options.reply_timeout)).map_err(|error| error.to_string())?;
                Ok(Self::Unix(stream))
            }
            Address::Tcp { host, port, tls } => {
                let stream = tcp(host, *port, options)?;
                if !tls {
                    return Ok(Self::Tcp(stream));
                }
                #[cfg(feature = "redis-tls")]
                return super::tls::connect(host, stream, &options.tls).map(|stream| Self::Tls(Box::new(stream)));
                #[cfg(not(feature = "redis-tls"))]
                Err("this build has no TLS (feature `redis-tls`), expected redis:// or unix://".to_owned())
            }
        }
    }
}

fn tcp(host: &str, port: u16, options: &RedisOptions) -> Result<TcpStream, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| format!("cannot look up {host}: {error}"))?;
    let mut why = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, options.connect_timeout) {
            Ok(stream) => {
                let set = stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(Some(options.reply_timeout)))
                    .and_then(|()| stream.set_write_timeout(Some(options.reply_timeout)));
                return set.map(|()| stream).map_err(|error| error.to_string());
            }
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
            #[cfg(feature = "redis-tls")]
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            #[cfg(feature = "redis-tls")]
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Unix(stream) => stream.flush(),
            #[cfg(feature = "redis-tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }
}
