/* See shim.h. Compiles against DPDK 22.11 to 25.11. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_fib.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_memory.h>
#include <rte_thash.h>

#include "shim.h"

/* The layout that src/lib.rs mirrors. `next` is not in it: it moves with the configuration of DPDK,
 * and only DPDK itself follows it. */
#define AT(field, offset) _Static_assert(offsetof(struct rte_mbuf, field) == (offset), "rte_mbuf." #field)
AT(buf_addr, 0);
AT(data_off, 16);
AT(refcnt, 18);
AT(nb_segs, 20);
AT(port, 22);
AT(ol_flags, 24);
AT(packet_type, 32);
AT(pkt_len, 36);
AT(data_len, 40);
AT(vlan_tci, 42);
AT(vlan_tci_outer, 52);
AT(buf_len, 54);
AT(pool, 56);
_Static_assert(sizeof(struct rte_mbuf) == 128, "rte_mbuf");
_Static_assert(sizeof(struct rte_ether_addr) == 6, "rte_ether_addr");

const uint64_t tg_mbuf_rx_vlan_stripped = RTE_MBUF_F_RX_VLAN_STRIPPED;
const uint16_t tg_mbuf_headroom = RTE_PKTMBUF_HEADROOM;
const int tg_socket_any = SOCKET_ID_ANY;
const uint32_t tg_speed_unknown = RTE_ETH_SPEED_NUM_UNKNOWN;
const uint64_t tg_rss_types = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER |
	RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_IPV6 |
	RTE_ETH_RSS_FRAG_IPV6 | RTE_ETH_RSS_NONFRAG_IPV6_OTHER | RTE_ETH_RSS_NONFRAG_IPV6_TCP |
	RTE_ETH_RSS_NONFRAG_IPV6_UDP;
const uint64_t tg_rss_types_required = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV4_UDP;

int tg_log_open(tg_log_writer *writer)
{
	cookie_io_functions_t functions = { .write = writer };
	FILE *stream = fopencookie(NULL, "w", functions);

	return stream == NULL ? -1 : rte_openlog_stream(stream);
}

int tg_errno(void)
{
	return rte_errno;
}

int tg_thread_is_registered(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

uint64_t tg_cycles(void)
{
	return rte_rdtsc();
}

/* The port of a device: a vdev's port has its name, a PCI device's port need not. -1: none. */
int tg_port_find(const char *device)
{
	struct rte_eth_dev_info info;
	uint16_t port;

	if (rte_eth_dev_get_port_by_name(device, &port) == 0)
		return port;
	RTE_ETH_FOREACH_DEV(port) {
		if (rte_eth_dev_info_get(port, &info) == 0 && info.device != NULL &&
		    strcmp(rte_dev_name(info.device), device) == 0)
			return port;
	}
	return -1;
}

int tg_port_info(uint16_t port, struct tg_port_info *out)
{
	struct rte_eth_dev_info info;
	int error = rte_eth_dev_info_get(port, &info);

	if (error != 0)
		return error;
	memset(out, 0, sizeof(*out));
	snprintf(out->driver, sizeof(out->driver), "%s", info.driver_name);
	out->device = info.device;
	out->rss_types = info.flow_type_rss_offloads;
	out->max_frame = info.max_rx_pktlen;
	out->max_rx_queues = info.max_rx_queues;
	out->max_tx_queues = info.max_tx_queues;
	out->min_mtu = info.min_mtu;
	out->max_mtu = info.max_mtu;
	out->reta_size = info.reta_size;
	out->hash_key_size = info.hash_key_size;
	return 0;
}

int tg_port_configure(uint16_t port, const struct tg_port_config *config)
{
	struct rte_eth_conf conf = { .rxmode = { .mtu = config->mtu } };

	if (config->rss_types != 0) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)config->rss_key;
		conf.rx_adv_conf.rss_conf.rss_key_len = (uint8_t)config->rss_key_size;
		conf.rx_adv_conf.rss_conf.rss_hf = config->rss_types;
	}
	return rte_eth_dev_configure(port, config->rx_queues, config->tx_queues, &conf);
}

int tg_port_set_reta(uint16_t port, const uint16_t *queues, uint16_t size)
{
	struct rte_eth_rss_reta_entry64 reta[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE] = {0};

	if (size > RTE_ETH_RSS_RETA_SIZE_512)
		return -ENOTSUP;
	for (uint16_t i = 0; i < size; i++) {
		struct rte_eth_rss_reta_entry64 *group = &reta[i / RTE_ETH_RETA_GROUP_SIZE];

		group->mask |= UINT64_C(1) << (i % RTE_ETH_RETA_GROUP_SIZE);
		group->reta[i % RTE_ETH_RETA_GROUP_SIZE] = queues[i];
	}
	return rte_eth_dev_rss_reta_update(port, reta, size);
}

int tg_port_link(uint16_t port, struct tg_link *out)
{
	struct rte_eth_link link = {0};
	int error = rte_eth_link_get_nowait(port, &link);

	out->speed_mbps = link.link_speed;
	out->up = link.link_status == RTE_ETH_LINK_UP;
	out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
	return error;
}

int tg_port_stats(uint16_t port, struct tg_port_stats *out)
{
	struct rte_eth_stats stats = {0};
	int error = rte_eth_stats_get(port, &stats);

	*out = (struct tg_port_stats) {
		.rx_packets = stats.ipackets, .rx_bytes = stats.ibytes, .rx_missed = stats.imissed,
		.rx_errors = stats.ierrors, .rx_no_buffer = stats.rx_nombuf,
		.tx_packets = stats.opackets, .tx_bytes = stats.obytes, .tx_errors = stats.oerrors,
	};
	return error;
}

uint16_t tg_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t tg_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

struct rte_mbuf *tg_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int tg_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void tg_mbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

int tg_mbuf_linearize(struct rte_mbuf *mbuf)
{
	return rte_pktmbuf_linearize(mbuf);
}

struct rte_fib *tg_fib_create(const char *name, int max_routes, int wide, uint32_t tables,
	uint64_t default_next_hop)
{
	struct rte_fib_conf conf = {
		.type = RTE_FIB_DIR24_8,
		.default_nh = default_next_hop,
		.max_routes = max_routes,
		.dir24_8 = {
			.nh_sz = wide ? RTE_FIB_DIR24_8_4B : RTE_FIB_DIR24_8_2B,
			.num_tbl8 = tables,
		},
	};

	return rte_fib_create(name, SOCKET_ID_ANY, &conf);
}

struct rte_hash *tg_hash_create(const char *name, uint32_t entries, uint32_t key_size)
{
	struct rte_hash_parameters parameters = {
		.name = name,
		.entries = entries,
		.key_len = key_size,
		.hash_func = rte_hash_crc,
		.socket_id = SOCKET_ID_ANY,
		.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF,
	};

	return rte_hash_create(&parameters);
}

uint64_t tg_heap_allocated(void)
{
	uint64_t bytes = 0;

	for (int socket = 0; socket < RTE_MAX_NUMA_NODES; socket++) {
		struct rte_malloc_socket_stats stats = {0};

		if (rte_malloc_get_socket_stats(socket, &stats) == 0)
			bytes += stats.heap_allocsz_bytes;
	}
	return bytes;
}

/* rte_softrss() reads the key as words and one of them ahead: 9 words of input use all 40 bytes. */
uint32_t tg_softrss(const uint32_t input[9], uint32_t count, const uint8_t key[40])
{
	uint32_t words[9], key_words[10];

	memcpy(words, input, sizeof(words));
	memcpy(key_words, key, sizeof(key_words));
	return rte_softrss(words, count, (const uint8_t *)key_words);
}
