/* The floor: what a NAT gateway costs that does nothing but find sessions and rewrite packets.
 *
 * No TCP state, no timers, no policy, one direction. Buckets of one cache line, eight tags of 16 bits
 * and eight indices, and sessions of one cache line; two cache misses a packet, those of a burst in
 * flight together. Flows are stamped into the frames of net_null, so that ten million of them cost the
 * source what one does.
 *
 *     gwbench EAL-OPTIONS -- SESSIONS
 *
 * prints "ready" once it holds the sessions. Then each line on stdin names a stage, and is answered by
 * "cycles NUMBER", the TSC cycles a packet takes on the calling thread, source and sink included.
 */
#include <immintrin.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_hash_crc.h>
#include <rte_ip.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_udp.h>

#define BURST 32
#define TURNS 60000
#define POOL 16383
#define POOL_CACHE 256
#define DESCRIPTORS 512
#define TAGS 8

enum stage { IO, STAMP, PARSE, LOOK_UP, TRANSLATE };
static const char *const stage_names[] = { "io", "stamp", "parse", "look-up", "translate" };

struct key {
	uint32_t source, destination;
	uint16_t source_port, destination_port;
	uint32_t protocol;
};

struct session {
	struct key key;
	uint32_t nat_address;
	uint16_t nat_port, out;
	uint16_t header_delta, transport_delta;
	uint32_t state;
	uint64_t last_seen, packets, bytes;
	uint64_t unused;
} __rte_cache_aligned;

struct bucket {
	uint16_t tags[TAGS];
	uint32_t sessions[TAGS];
	uint32_t unused[4];
} __rte_cache_aligned;

_Static_assert(sizeof(struct session) == 64, "a session is one cache line");
_Static_assert(sizeof(struct bucket) == 64, "a bucket is one cache line");

static uint32_t session_count, bucket_mask;
static struct session *sessions;
static struct bucket *buckets;
static uint8_t template[64];
static uint64_t random_state = 88172645463325252u;

static inline uint32_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32);
}

static inline struct key flow_key(uint32_t i)
{
	return (struct key) {
		.source = 0x0a000000u + i,
		.destination = 0xc0000000u ^ (i * 2654435761u),
		.source_port = (uint16_t)(1024 + i * 40503u),
		.destination_port = 443,
		.protocol = IPPROTO_UDP,
	};
}

static inline uint64_t hash_key(const struct key *key)
{
	uint64_t words[2], low, high;

	memcpy(words, key, sizeof(words));
	low = rte_hash_crc_8byte(words[0], 0x1234567);
	high = rte_hash_crc_8byte(words[1], (uint32_t)low);
	return high | low << 32;
}

/* Zero marks a free place. */
static inline uint16_t hash_tag(uint64_t hash)
{
	return (uint16_t)(hash >> 48) | 1;
}

static inline void stamp(struct rte_mbuf *mbuf, uint32_t flow)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	struct key key = flow_key(flow);
	struct rte_ipv4_hdr *ip = (void *)(frame + sizeof(struct rte_ether_hdr));
	struct rte_udp_hdr *udp = (void *)(ip + 1);

	memcpy(frame, template, sizeof(template));
	ip->src_addr = rte_cpu_to_be_32(key.source);
	ip->dst_addr = rte_cpu_to_be_32(key.destination);
	udp->src_port = rte_cpu_to_be_16(key.source_port);
	udp->dst_port = rte_cpu_to_be_16(key.destination_port);
}

static inline struct key parse(const struct rte_mbuf *mbuf)
{
	const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, const struct rte_ether_hdr *);
	const struct rte_ipv4_hdr *ip = (const void *)(ether + 1);
	const struct rte_udp_hdr *udp = (const void *)(ip + 1);

	if (unlikely(ether->ether_type != rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) ||
		     ip->version_ihl != RTE_IPV4_VHL_DEF ||
		     (ip->fragment_offset & rte_cpu_to_be_16(0x3fff)) != 0 || ip->time_to_live < 2 ||
		     mbuf->data_len < sizeof(*ether) + sizeof(*ip) + sizeof(*udp)))
		abort();
	return (struct key) {
		.source = rte_be_to_cpu_32(ip->src_addr),
		.destination = rte_be_to_cpu_32(ip->dst_addr),
		.source_port = rte_be_to_cpu_16(udp->src_port),
		.destination_port = rte_be_to_cpu_16(udp->dst_port),
		.protocol = ip->next_proto_id,
	};
}

/* RFC 1624, equation 3. */
static inline uint16_t correct(uint16_t checksum, uint16_t delta)
{
	uint32_t sum = (uint16_t)~checksum + (uint32_t)delta;

	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

static inline void translate(struct rte_mbuf *mbuf, struct session *session, uint64_t now)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	struct rte_ipv4_hdr *ip = (void *)(frame + sizeof(struct rte_ether_hdr));
	struct rte_udp_hdr *udp = (void *)(ip + 1);

	ip->src_addr = session->nat_address;
	udp->src_port = session->nat_port;
	ip->time_to_live--;
	ip->hdr_checksum = correct(ip->hdr_checksum, session->header_delta);
	if (udp->dgram_cksum != 0)
		udp->dgram_cksum = correct(udp->dgram_cksum, session->transport_delta);
	memcpy(frame, sessions, 2 * RTE_ETHER_ADDR_LEN);
	session->last_seen = now;
	session->packets++;
	session->bytes += mbuf->pkt_len;
}

static inline uint32_t matching_tags(const struct bucket *bucket, uint16_t tag)
{
	__m128i tags = _mm_load_si128((const __m128i *)bucket->tags);

	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi16(tags, _mm_set1_epi16((short)tag)));
}

static void insert(uint32_t i)
{
	struct key key = flow_key(i);
	uint64_t hash = hash_key(&key);

	for (uint32_t b = hash & bucket_mask;; b = (b + 1) & bucket_mask)
		for (int place = 0; place < TAGS; place++)
			if (buckets[b].tags[place] == 0) {
				buckets[b].tags[place] = hash_tag(hash);
				buckets[b].sessions[place] = i;
				return;
			}
}

/* The session of a key whose first matching tag was another's, or that did not fit into its bucket. */
static __attribute__((noinline, cold)) struct session *search(const struct key *key, uint64_t hash)
{
	uint32_t b = hash & bucket_mask;

	for (int bucket = 0; bucket < 64; bucket++, b = (b + 1) & bucket_mask)
		for (int place = 0; place < TAGS; place++) {
			struct session *session = &sessions[buckets[b].sessions[place]];

			if (buckets[b].tags[place] == hash_tag(hash) &&
			    memcmp(&session->key, key, sizeof(*key)) == 0)
				return session;
		}
	abort();
}

/* The sessions of a burst. */
static inline void look_up(const struct key *keys, struct session **found, uint16_t count)
{
	uint64_t hashes[BURST];

	for (int i = 0; i < count; i++) {
		hashes[i] = hash_key(&keys[i]);
		rte_prefetch0(&buckets[hashes[i] & bucket_mask]);
	}
	for (int i = 0; i < count; i++) {
		uint32_t b = hashes[i] & bucket_mask;
		uint32_t tags = matching_tags(&buckets[b], hash_tag(hashes[i]));

		if (unlikely(tags == 0)) {
			b = (b + 1) & bucket_mask;
			tags = matching_tags(&buckets[b], hash_tag(hashes[i]));
		}
		found[i] = &sessions[tags != 0 ? buckets[b].sessions[__builtin_ctz(tags) / 2] : 0];
		rte_prefetch0(found[i]);
	}
	for (int i = 0; i < count; i++)
		if (unlikely(memcmp(&found[i]->key, &keys[i], sizeof(keys[i])) != 0))
			found[i] = search(&keys[i], hashes[i]);
}

/* Inlined with a constant, so that each stage has a loop without what it leaves out. */
static inline __attribute__((always_inline)) double run(enum stage stage)
{
	uint64_t packets = 0, sum = 0, start = rte_rdtsc();

	for (int turn = 0; turn < TURNS; turn++) {
		struct rte_mbuf *mbufs[BURST];
		struct key keys[BURST];
		struct session *found[BURST];
		uint16_t count = rte_eth_rx_burst(0, 0, mbufs, BURST);
		uint64_t now = rte_rdtsc();

		packets += count;
		if (stage >= STAMP)
			for (int i = 0; i < count; i++)
				stamp(mbufs[i], (uint32_t)(((uint64_t)next_random() * session_count) >> 32));
		if (stage >= PARSE)
			for (int i = 0; i < count; i++) {
				keys[i] = parse(mbufs[i]);
				sum += keys[i].source;
			}
		if (stage >= LOOK_UP) {
			look_up(keys, found, count);
			for (int i = 0; i < count; i++)
				if (stage >= TRANSLATE)
					translate(mbufs[i], found[i], now);
				else
					sum += found[i]->nat_address;
		}
		if (rte_eth_tx_burst(1, 0, mbufs, count) != count)
			abort();
	}
	__asm__ volatile("" : : "r"(sum));
	return (double)(rte_rdtsc() - start) / (double)packets;
}

static double measure(enum stage stage)
{
	switch (stage) {
	case IO: return run(IO);
	case STAMP: return run(STAMP);
	case PARSE: return run(PARSE);
	case LOOK_UP: return run(LOOK_UP);
	default: return run(TRANSLATE);
	}
}

static void open_ports(void)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", POOL, POOL_CACHE, 0,
		RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	struct rte_eth_conf conf = { 0 };

	if (pool == NULL)
		rte_exit(EXIT_FAILURE, "no memory for packet buffers\n");
	for (uint16_t port = 0; port < 2; port++)
		if (rte_eth_dev_configure(port, 1, 1, &conf) != 0 ||
		    rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, 0, NULL, pool) != 0 ||
		    rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, 0, NULL) != 0 ||
		    rte_eth_dev_start(port) != 0)
			rte_exit(EXIT_FAILURE, "port %u does not start\n", port);
}

static void fill_table(void)
{
	uint32_t bucket_count = rte_align32pow2(RTE_MAX(session_count / 5, 16u));

	bucket_mask = bucket_count - 1;
	sessions = rte_zmalloc(NULL, (size_t)session_count * sizeof(*sessions), 64);
	buckets = rte_zmalloc(NULL, (size_t)bucket_count * sizeof(*buckets), 64);
	if (sessions == NULL || buckets == NULL)
		rte_exit(EXIT_FAILURE, "no memory for %" PRIu32 " sessions\n", session_count);
	for (uint32_t i = 0; i < session_count; i++) {
		sessions[i] = (struct session) {
			.key = flow_key(i),
			.nat_address = 0x01020304 + i,
			.nat_port = (uint16_t)i,
			.header_delta = (uint16_t)(i * 7),
			.transport_delta = (uint16_t)(i * 13),
		};
		insert(i);
	}
}

static void fill_template(void)
{
	template[12] = 0x08;			/* IPv4 */
	template[14] = RTE_IPV4_VHL_DEF;
	template[17] = 46;			/* bytes of the datagram */
	template[22] = 64;			/* TTL */
	template[23] = IPPROTO_UDP;
	template[39] = 26;			/* bytes of UDP */
	template[40] = 0x12;			/* some checksum */
}

int main(int argc, char **argv)
{
	int parsed = rte_eal_init(argc, argv);
	char line[32];

	if (parsed < 0 || argc - parsed != 2)
		rte_exit(EXIT_FAILURE, "usage: gwbench EAL-OPTIONS -- SESSIONS\n");
	session_count = (uint32_t)strtoul(argv[parsed + 1], NULL, 10);
	if (session_count == 0)
		rte_exit(EXIT_FAILURE, "no sessions\n");
	fill_template();
	open_ports();
	fill_table();
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		for (unsigned int stage = 0; stage < RTE_DIM(stage_names); stage++)
			if (strcmp(line, stage_names[stage]) == 0)
				printf("cycles %.2f\n", measure(stage));
		fflush(stdout);
	}
	return 0;
}
