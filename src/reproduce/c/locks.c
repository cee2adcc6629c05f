
/* Loads four bytes until they say this, for some seconds at most: what they said in the end. */
static MAY_BE_UNUSED long await(uintptr_t at, uint32_t value)
{
	time_t limit = time(NULL) + 8;
	uint32_t seen;
	while ((seen = __atomic_load_n((uint32_t *)at, __ATOMIC_ACQUIRE)) != value && time(NULL) < limit)
		sched_yield();
	return seen;
}

/* A plain load, addition and store, each while four other bytes are held as a lock: what was there before the last. */
static MAY_BE_UNUSED long locked_add(uintptr_t lock, uintptr_t at, uint32_t add, uint32_t times)
{
	uint32_t before = 0;
	while (times--) {
		uint32_t free = 0;
		while (!__atomic_compare_exchange_n((uint32_t *)lock, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			free = 0;
			sched_yield();
		}
		before = *(volatile uint32_t *)at;
		*(volatile uint32_t *)at = before + add;
		__atomic_store_n((uint32_t *)lock, 0, __ATOMIC_RELEASE);
	}
	return before;
}
