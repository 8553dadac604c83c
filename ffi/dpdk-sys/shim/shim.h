/* What the Rust side cannot call or lay out by itself: DPDK's static inlines, its thread-local
 * errno, its constants, and its structures, which never cross by value. src/lib.rs declares the
 * same names; the two files change together. */
#ifndef TIDEGATE_DPDK_SHIM_H
#define TIDEGATE_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct rte_device;
struct rte_fib;
struct rte_hash;
struct rte_mbuf;
struct rte_mempool;

struct tg_port_info {
	char driver[64];
	struct rte_device *device;
	uint64_t rss_types;
	uint32_t max_frame;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t min_mtu;
	uint16_t max_mtu;
	uint16_t reta_size;
	uint16_t hash_key_size;
};

struct tg_port_config {
	uint64_t rss_types; /* zero: no RSS */
	const uint8_t *rss_key;
	uint16_t rss_key_size;
	uint16_t rx_queues;
	uint16_t tx_queues;
	uint16_t mtu; /* zero: the driver's default */
};

struct tg_link {
	uint32_t speed_mbps;
	uint8_t up;
	uint8_t full_duplex;
};

struct tg_port_stats {
	uint64_t rx_packets, rx_bytes, rx_missed, rx_errors, rx_no_buffer;
	uint64_t tx_packets, tx_bytes, tx_errors;
};

extern const uint64_t tg_mbuf_rx_vlan_stripped;
extern const uint16_t tg_mbuf_headroom;
extern const int tg_socket_any;
extern const uint32_t tg_speed_unknown;
extern const uint64_t tg_rss_types;
extern const uint64_t tg_rss_types_required;

typedef ssize_t tg_log_writer(void *cookie, const char *text, size_t length);
int tg_log_open(tg_log_writer *writer);
int tg_errno(void);
int tg_thread_is_registered(void);
uint64_t tg_cycles(void);

int tg_port_find(const char *device);
int tg_port_info(uint16_t port, struct tg_port_info *info);
int tg_port_configure(uint16_t port, const struct tg_port_config *config);
int tg_port_set_reta(uint16_t port, const uint16_t *queues, uint16_t size);
int tg_port_link(uint16_t port, struct tg_link *link);
int tg_port_stats(uint16_t port, struct tg_port_stats *stats);
uint16_t tg_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t tg_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

struct rte_mbuf *tg_mbuf_alloc(struct rte_mempool *pool);
int tg_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void tg_mbuf_free(struct rte_mbuf *mbuf);
int tg_mbuf_linearize(struct rte_mbuf *mbuf);

struct rte_fib *tg_fib_create(const char *name, int max_routes, int wide, uint32_t tables,
	uint64_t default_next_hop);

uint32_t tg_softrss(const uint32_t input[9], uint32_t count, const uint8_t key[40]);

struct rte_hash *tg_hash_create(const char *name, uint32_t entries, uint32_t key_size);
uint64_t tg_heap_allocated(void);

#endif
