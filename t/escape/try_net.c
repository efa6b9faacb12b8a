/*
 * try_net.c - attempts on the network: each family and type of socket, connections that go round a filter, listening.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/xalloc.h"
#include "t/escape/escape.h"
#include "common/banned.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef TCP_FASTOPEN_CONNECT
#define TCP_FASTOPEN_CONNECT 30
#endif

static int
came(long r)
{
	return r < 0 ? -1 : 0;
}

static struct sockaddr_in
loopback(unsigned port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(WORLD_ADDRESS) };
}

static int
open_socket(int family, int type, int protocol)
{
	return (int)syscall(SYS_socket, family, type, protocol);
}

/* What the roles of the network are for */

static int
connect_to(int family, int protocol, unsigned port)
{
	struct sockaddr_in a = loopback(port);
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = open_socket(family, SOCK_STREAM, protocol);

	if (fd < 0)
		return -1;
	return family == AF_INET ? connect(fd, (struct sockaddr *)&a, sizeof(a)) : connect(fd, (struct sockaddr *)&a6, sizeof(a6));
}

static int a_tcp(const struct world *w) { return connect_to(AF_INET, 0, w->tcp_port); }
static int a_tcp6(const struct world *w) { return w->tcp6_port ? connect_to(AF_INET6, 0, w->tcp6_port) : NOT_HERE; }
static int a_mptcp(const struct world *w) { return connect_to(AF_INET, IPPROTO_MPTCP, w->tcp_port); }

static int
a_udp(const struct world *w)
{
	struct sockaddr_in a = loopback(w->udp_port);
	int fd = open_socket(AF_INET, SOCK_DGRAM, 0);

	return fd < 0 ? -1 : came(sendto(fd, "x", 1, 0, (struct sockaddr *)&a, sizeof(a)));
}

/* Connections without connect */

static int
fastopen_msg(const struct world *w, struct msghdr *m, struct sockaddr_in *a, struct iovec *v)
{
	static char x[] = "x";

	*a = loopback(w->tcp_port);
	*v = (struct iovec){ x, 1 };
	*m = (struct msghdr){ .msg_name = a, .msg_namelen = sizeof(*a), .msg_iov = v, .msg_iovlen = 1 };
	return open_socket(AF_INET, SOCK_STREAM, 0);
}

static int
a_fastopen_sendto(const struct world *w)
{
	struct sockaddr_in a = loopback(w->tcp_port);
	int fd = open_socket(AF_INET, SOCK_STREAM, 0);

	return fd < 0 ? -1 : came(sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof(a)));
}

static int
a_fastopen_sendmsg(const struct world *w)
{
	struct sockaddr_in a;
	struct iovec v;
	struct msghdr m;
	int fd = fastopen_msg(w, &m, &a, &v);

	return fd < 0 ? -1 : came(sendmsg(fd, &m, MSG_FASTOPEN));
}

static int
a_fastopen_sendmmsg(const struct world *w)
{
	struct sockaddr_in a;
	struct iovec v;
	struct mmsghdr m;
	int fd;

	memset(&m, 0, sizeof(m));
	fd = fastopen_msg(w, &m.msg_hdr, &a, &v);
	return fd < 0 ? -1 : came(sendmmsg(fd, &m, 1, MSG_FASTOPEN));
}

static int
set_option(int level, int name, const void *v, socklen_t n)
{
	int fd = open_socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, level, name, v, n) < 0)
		return -1;
	return fd;
}

static int
a_fastopen_connect(const struct world *w)
{
	struct sockaddr_in a = loopback(w->tcp_port);
	int on = 1, fd = set_option(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on));

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -1;
	return write(fd, "x", 1) == 1 ? 0 : -1;
}

/* Listening */

static int
listening(int fd)
{
	struct sockaddr_in a;
	socklen_t n = sizeof(a);

	if (syscall(SYS_listen, fd, 4) < 0 || getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return -1;
	return say('L', &a.sin_port, sizeof(a.sin_port));
}

/* Without an address of its own the kernel gives it a port. */
static int
a_listen(const struct world *w)
{
	int fd = open_socket(AF_INET, SOCK_STREAM, 0);

	(void)w;
	return fd < 0 ? -1 : listening(fd);
}

static int
a_bind_listen(const struct world *w)
{
	struct sockaddr_in a = loopback(0);
	int fd = open_socket(AF_INET, SOCK_STREAM, 0);

	(void)w;
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -1;
	return listening(fd);
}

static int
a_bind_udp(const struct world *w)
{
	struct sockaddr_in a = loopback(0);
	int fd = open_socket(AF_INET, SOCK_DGRAM, 0);

	(void)w;
	return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof(a));
}

/* The status child's own work; other roles have no such descriptor. */
static int
a_accept(const struct world *w)
{
	(void)w;
	return came(syscall(SYS_accept4, FD_LISTEN, NULL, NULL, SOCK_CLOEXEC));
}

/* A connection that came in, taken apart and led elsewhere. */
static int
a_accept_turn(const struct world *w)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	struct sockaddr_in a = loopback(w->tcp_port);
	int fd = (int)syscall(SYS_accept4, FD_LISTEN, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 || connect(fd, &none, sizeof(none)) < 0)
		return -1;
	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

/* Sockets of this machine */

static socklen_t
unix_address(struct sockaddr_un *a, const char *path, const char *abstract)
{
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(a->sun_path + (abstract != NULL), sizeof(a->sun_path) - 1, "%s", abstract ? abstract : path);
	return abstract ? (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(abstract)) : sizeof(*a);
}

static int
unix_connect(int fd, const char *path, const char *abstract)
{
	struct sockaddr_un a;
	socklen_t n = unix_address(&a, path, abstract);

	return fd < 0 ? -1 : connect(fd, (struct sockaddr *)&a, n);
}

static int a_unix_path(const struct world *w) { return unix_connect(open_socket(AF_UNIX, SOCK_STREAM, 0), w->unix_stream, NULL); }
static int a_unix_abstract(const struct world *w) { return unix_connect(open_socket(AF_UNIX, SOCK_STREAM, 0), NULL, w->abstract); }
static int a_unix_given(const struct world *w) { return unix_connect(FD_MASTER, NULL, w->abstract); }

static int
unix_send(int fd, const struct world *w)
{
	struct sockaddr_un a;
	socklen_t n = unix_address(&a, w->unix_dgram, NULL);

	return fd < 0 ? -1 : came(sendto(fd, "x", 1, 0, (struct sockaddr *)&a, n));
}

static int a_unix_dgram(const struct world *w) { return unix_send(open_socket(AF_UNIX, SOCK_DGRAM, 0), w); }

/* A pair needs no call to socket, and an end of a datagram pair sends wherever it is told. */
static int
a_unix_pair(const struct world *w)
{
	int sv[2];

	return socketpair(AF_UNIX, SOCK_DGRAM, 0, sv) < 0 ? -1 : unix_send(sv[0], w);
}

static int
a_unix_pair_seqpacket(const struct world *w)
{
	int sv[2];

	(void)w;
	return socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv);
}

/* The end of a stream pair, once the other end is gone. */
static int
a_unix_pair_stream(const struct world *w)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) < 0)
		return -1;
	close(sv[1]);
	return unix_connect(sv[0], w->unix_stream, NULL);
}

static int
a_unix_listen(const struct world *w)
{
	struct sockaddr_un a;
	socklen_t n = unix_address(&a, NULL, "evil-of-the-sandbox-tests");
	int fd = open_socket(AF_UNIX, SOCK_STREAM, 0);

	(void)w;
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) < 0)
		return -1;
	return came(syscall(SYS_listen, fd, 1));
}

/* Families, types and protocols one by one */

#define SOCKET(name, family, type, protocol) \
	static int name(const struct world *w) { (void)w; return came(open_socket(family, type, protocol)); }
SOCKET(a_netlink, AF_NETLINK, SOCK_RAW, 0)
SOCKET(a_packet, AF_PACKET, SOCK_RAW, 0x300)
SOCKET(a_raw, AF_INET, SOCK_RAW, IPPROTO_ICMP)
SOCKET(a_raw6, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
SOCKET(a_ping, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
SOCKET(a_alg, AF_ALG, SOCK_SEQPACKET, 0)
SOCKET(a_vsock, AF_VSOCK, SOCK_STREAM, 0)
SOCKET(a_key, AF_KEY, SOCK_RAW, 2)
SOCKET(a_sctp, AF_INET, SOCK_STREAM, IPPROTO_SCTP)
SOCKET(a_udplite, AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)
SOCKET(a_smc, 43, SOCK_STREAM, 0)
SOCKET(a_xdp, 44, SOCK_RAW, 0)
SOCKET(a_tipc, 30, SOCK_SEQPACKET, 0)
SOCKET(a_rds, 21, SOCK_SEQPACKET, 0)
SOCKET(a_bluetooth, 31, SOCK_RAW, 1)

/* What a network role may have; the flags that may be in a type do not matter here. */
static bool
ordinary(int family, int type, int protocol)
{
	return (family == AF_INET || family == AF_INET6) &&
	    ((type == SOCK_STREAM && (!protocol || protocol == IPPROTO_TCP)) ||
	    (type == SOCK_DGRAM && (!protocol || protocol == IPPROTO_UDP)));
}

/* Every family there is, in all types: none but what the rows net-tcp and net-udp already tell of. */
static int
a_all(const struct world *w)
{
	static const int protocols[] = { 0, 1, 6, 17, 58, 132, 136, 255, IPPROTO_MPTCP };
	int last = 0;

	(void)w;
	for (int family = 0; family < 50; family++) {
		bool internet = family == AF_INET || family == AF_INET6;

		for (int type = 1; type <= 10; type++)
			for (size_t i = 0; i < (internet ? sizeof(protocols) / sizeof(protocols[0]) : 1); i++) {
				int fd = ordinary(family, type, protocols[i]) ? -1 : open_socket(family, type, protocols[i]);
				int which[3] = { family, type, protocols[i] };

				if (fd >= 0)
					return say('K', which, sizeof(which));
				last = errno ? errno : last;
			}
	}
	errno = last;
	return -1;
}

/* Options */

static int
a_option_filter(const struct world *w)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
	struct sock_fprog p = { 1, &all };

	(void)w;
	return came(set_option(SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p)));
}

/* On the one socket that every role has. */
static int
a_option_filter_given(const struct world *w)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffffffff);
	struct sock_fprog p = { 1, &all };

	(void)w;
	return setsockopt(FD_MASTER, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p));
}

static int a_option_device(const struct world *w) { (void)w; return came(set_option(SOL_SOCKET, SO_BINDTODEVICE, "lo", 3)); }
static int a_option_mark(const struct world *w) { int v = 7; (void)w; return came(set_option(SOL_SOCKET, SO_MARK, &v, sizeof(v))); }
static int a_option_transparent(const struct world *w) { int v = 1; (void)w; return came(set_option(IPPROTO_IP, IP_TRANSPARENT, &v, sizeof(v))); }
static int a_option_repair(const struct world *w) { int v = 1; (void)w; return came(set_option(IPPROTO_TCP, TCP_REPAIR, &v, sizeof(v))); }
static int a_option_route(const struct world *w) { unsigned char o[4] = { 1, 1, 1, 0 }; (void)w; return came(set_option(IPPROTO_IP, IP_OPTIONS, o, sizeof(o))); }
static int a_option_buffer(const struct world *w) { int v = 1 << 28; (void)w; return came(setsockopt(FD_MASTER, SOL_SOCKET, SO_SNDBUFFORCE, &v, sizeof(v))); }
static int a_option_passcred(const struct world *w) { int v = 1; (void)w; return came(setsockopt(FD_MASTER, SOL_SOCKET, SO_PASSCRED, &v, sizeof(v))); }

static int
a_interfaces(const struct world *w)
{
	struct ifreq r[16];
	struct ifconf c = { .ifc_len = sizeof(r), .ifc_req = r };
	int fd = open_socket(AF_INET, SOCK_DGRAM, 0);

	(void)w;
	return fd < 0 ? -1 : came(ioctl(fd, SIOCGIFCONF, &c));
}

/* A descriptor to the master: it takes none, but a kernel's bug in passing them would be one. */
static int
a_pass_fd(const struct world *w)
{
	union { struct cmsghdr h; char room[CMSG_SPACE(sizeof(int))]; } u;
	struct iovec v = { (void *)(uintptr_t)"Kpassed", 7 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u.room) };
	int fd = FD_SPOOL;

	(void)w;
	memset(&u, 0, sizeof(u));
	u.h.cmsg_level = SOL_SOCKET;
	u.h.cmsg_type = SCM_RIGHTS;
	u.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
	return came(sendmsg(FD_MASTER, &m, 0));
}

const struct attempt attempts_net[] = {
	{ "net-tcp", NETWORK, W_NET, a_tcp, "a connection" },
	{ "net-tcp6", NETWORK, W_NET, a_tcp6, "a connection by IPv6" },
	{ "net-udp", NETWORK, W_NET, a_udp, "a datagram" },
	{ "net-mptcp", ALWAYS, W_NET, a_mptcp, "a multipath connection" },
	{ "net-fastopen-sendto", ALWAYS, W_NET, a_fastopen_sendto, "a connection by sendto" },
	{ "net-fastopen-sendmsg", ALWAYS, W_NET, a_fastopen_sendmsg, "a connection by sendmsg" },
	{ "net-fastopen-sendmmsg", ALWAYS, W_NET, a_fastopen_sendmmsg, "a connection by sendmmsg" },
	{ "net-fastopen-connect", ALWAYS, W_NET, a_fastopen_connect, "a connection by the option of the socket" },
	{ "net-listen", ALWAYS, W_NET, a_listen, "listening without an address" },
	{ "net-bind-listen", ALWAYS, W_NET, a_bind_listen, "listening" },
	{ "net-bind-udp", ALWAYS, 0, a_bind_udp, "an address for datagrams" },
	{ "net-accept", HTTP, 0, a_accept, "a connection that comes in" },
	{ "net-accept-turn", ALWAYS, W_NET, a_accept_turn, "the same, led to another address" },
	{ "unix-path", ALWAYS, W_NET, a_unix_path, "a socket with a path (docker.sock)" },
	{ "unix-abstract", ALWAYS, W_NET, a_unix_abstract, "an abstract socket" },
	{ "unix-given", ALWAYS, 0, a_unix_given, "the worker's own socket, led elsewhere" },
	{ "unix-dgram", ALWAYS, W_NET, a_unix_dgram, "a datagram to a path" },
	{ "unix-pair-dgram", ALWAYS, W_NET, a_unix_pair, "the same from a pair" },
	{ "unix-pair-seqpacket", ALWAYS, 0, a_unix_pair_seqpacket, "a pair of packets" },
	{ "unix-pair-stream", ALWAYS, 0, a_unix_pair_stream, "a stream pair, led elsewhere" },
	{ "unix-listen", ALWAYS, 0, a_unix_listen, "listening on an abstract name" },
	{ "unix-pass-fd", OPEN, 0, a_pass_fd, "a descriptor sent to the master, which takes none" },
	{ "socket-netlink", ALWAYS, 0, a_netlink, "netlink" },
	{ "socket-packet", ALWAYS, 0, a_packet, "whole packets of a network" },
	{ "socket-raw", ALWAYS, 0, a_raw, "raw IPv4" },
	{ "socket-raw6", ALWAYS, 0, a_raw6, "raw IPv6" },
	{ "socket-ping", ALWAYS, 0, a_ping, "ICMP datagrams" },
	{ "socket-alg", ALWAYS, 0, a_alg, "the kernel's ciphers" },
	{ "socket-vsock", ALWAYS, 0, a_vsock, "the machine's host" },
	{ "socket-key", ALWAYS, 0, a_key, "IPsec keys" },
	{ "socket-sctp", ALWAYS, 0, a_sctp, "SCTP" },
	{ "socket-udplite", ALWAYS, 0, a_udplite, "UDP-Lite" },
	{ "socket-smc", ALWAYS, 0, a_smc, "SMC" },
	{ "socket-xdp", ALWAYS, 0, a_xdp, "XDP" },
	{ "socket-tipc", ALWAYS, 0, a_tipc, "TIPC" },
	{ "socket-rds", ALWAYS, 0, a_rds, "RDS" },
	{ "socket-bluetooth", ALWAYS, 0, a_bluetooth, "Bluetooth" },
	{ "socket-all", ALWAYS, 0, a_all, "every family and type but TCP and UDP" },
	{ "option-filter", ALWAYS, 0, a_option_filter, "a packet filter on a socket" },
	{ "option-filter-given", ALWAYS, 0, a_option_filter_given, "a packet filter on the worker's own socket" },
	{ "option-device", ALWAYS, 0, a_option_device, "one interface" },
	{ "option-mark", ALWAYS, 0, a_option_mark, "a mark for the firewall" },
	{ "option-transparent", ALWAYS, 0, a_option_transparent, "foreign addresses" },
	{ "option-repair", ALWAYS, 0, a_option_repair, "a connection made up" },
	{ "option-route", ALWAYS, 0, a_option_route, "options in the IP header" },
	{ "option-buffer", ALWAYS, 0, a_option_buffer, "a buffer beyond the limit" },
	{ "option-passcred", ALWAYS, 0, a_option_passcred, "credentials with each frame" },
	{ "option-interfaces", ALWAYS, 0, a_interfaces, "the list of interfaces" },
	{ NULL, 0, 0, NULL, NULL },
};
