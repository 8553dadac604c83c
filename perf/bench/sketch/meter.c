/* Linked into a DPDK program that has no meter of its own. Once started it prints "meter ready", and
 * then answers each line on stdin with "meter CYCLES PACKETS": the time stamp counter, and the frames
 * that all ports have sent so far. It ends the program with its stdin.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>

static void *answer(void *unused)
{
	char line[16];

	(void)unused;
	while (fgets(line, sizeof(line), stdin) != NULL) {
		uint64_t packets = 0;
		uint16_t port;

		RTE_ETH_FOREACH_DEV(port) {
			struct rte_eth_stats stats;

			if (rte_eth_stats_get(port, &stats) == 0)
				packets += stats.opackets;
		}
		printf("meter %" PRIu64 " %" PRIu64 "\n", rte_rdtsc(), packets);
		fflush(stdout);
	}
	_Exit(EXIT_SUCCESS);
}

void start_meter(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, answer, NULL) != 0)
		abort();
	pthread_detach(thread);
	puts("meter ready");
	fflush(stdout);
}
