/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The raw code of the comparison: freestanding, position independent, linked to a flat image whose first byte is
 * raw_run(). The same bytes run under libvirtcore, under Unicorn and on the host. No header of the host is used, and no
 * memory but the image, the stack and what the caller passes.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

static u32 rotr(u32 x, unsigned n)
{
	return x >> n | x << (32 - n);
}

/* FIPS 180-4, 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
/* clang-format off */
static const u32 sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
/* clang-format on */

static void sha256_block(u32 *h, const u8 *p)
{
	u32 w[64], s[8];

	for (unsigned i = 0; i < 16; i++)
		w[i] = __builtin_bswap32(*(const u32 *)(p + 4 * i));
	for (unsigned i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) +
		       (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
	for (unsigned i = 0; i < 8; i++)
		s[i] = h[i];
	for (unsigned i = 0; i < 64; i++) {
		u32 t1 = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
		         sha256_k[i] + w[i];
		u32 t2 = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));

		s[7] = s[6];
		s[6] = s[5];
		s[5] = s[4];
		s[4] = s[3] + t1;
		s[3] = s[2];
		s[2] = s[1];
		s[1] = s[0];
		s[0] = t1 + t2;
	}
	for (unsigned i = 0; i < 8; i++)
		h[i] += s[i];
}

/* n KiB of zeros; the padding of FIPS 180-4 5.1.1 as the last block. The first 64 bits of the digest. */
static u64 sha256(u64 n, u8 *memory)
{
	/* 5.3.3: of the square roots of the first 8 primes */
	u32 h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	u64 bytes = n * 1024;
	u8 *last = memory + bytes;

	for (u64 at = 0; at < bytes; at += 64)
		sha256_block(h, memory + at);
	for (unsigned i = 0; i < 56; i++)
		last[i] = 0;
	last[0] = 0x80;
	*(u64 *)(last + 56) = __builtin_bswap64(bytes * 8);
	sha256_block(h, last);
	return (u64)h[0] << 32 | h[1];
}

static void sort(int *a, long low, long high)
{
	while (low < high) {
		int pivot = a[low + (high - low) / 2];
		long i = low, j = high;

		while (i <= j) {
			while (a[i] < pivot)
				i++;
			while (a[j] > pivot)
				j--;
			if (i <= j) {
				int t = a[i];

				a[i++] = a[j];
				a[j--] = t;
			}
		}
		/* the shorter part by recursion, so that the stack stays small */
		if (j - low < high - i) {
			sort(a, low, j);
			low = i;
		} else {
			sort(a, i, high);
			high = j;
		}
	}
}

/* n pseudo-random ints; a sum over the sorted ones, or 0 when they are not. */
static u64 quicksort(u64 n, u8 *memory)
{
	int *a = (int *)memory;
	u64 x = 1, sum = 0;

	for (u64 i = 0; i < n; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		a[i] = (int)(x >> 33);
	}
	sort(a, 0, (long)n - 1);
	for (u64 i = 0; i < n; i++) {
		if (i > 0 && a[i - 1] > a[i])
			return 0;
		sum = sum * 31 + (u64)a[i];
	}
	return sum;
}

struct body {
	double x[3], v[3], mass;
};

/* n steps of five bodies about each other, from round figures. The bits of the energy's parts. */
static u64 nbody(u64 n, u8 *memory)
{
	struct body *b = (struct body *)memory;
	double energy = 0;
	u64 bits;

	for (unsigned i = 0; i < 5; i++) {
		double d = i;

		b[i].x[0] = 3 * d;
		b[i].x[1] = d * d * 0.25 - d;
		b[i].x[2] = 0.125 * d;
		b[i].v[0] = -0.25 * d;
		b[i].v[1] = i ? 3.5 - 0.5 * d : 0;
		b[i].v[2] = 0.0625 * d;
		b[i].mass = i ? 0.03125 / d : 39;
	}
	for (u64 step = 0; step < n; step++) {
		for (unsigned i = 0; i < 5; i++)
			for (unsigned j = i + 1; j < 5; j++) {
				double dx = b[i].x[0] - b[j].x[0], dy = b[i].x[1] - b[j].x[1], dz = b[i].x[2] - b[j].x[2];
				double square = dx * dx + dy * dy + dz * dz, force = 0.001 / (square * __builtin_sqrt(square));
				double to_i = b[j].mass * force, to_j = b[i].mass * force;

				b[i].v[0] -= dx * to_i;
				b[i].v[1] -= dy * to_i;
				b[i].v[2] -= dz * to_i;
				b[j].v[0] += dx * to_j;
				b[j].v[1] += dy * to_j;
				b[j].v[2] += dz * to_j;
			}
		for (unsigned i = 0; i < 5; i++)
			for (unsigned k = 0; k < 3; k++)
				b[i].x[k] += 0.001 * b[i].v[k];
	}
	for (unsigned i = 0; i < 5; i++)
		for (unsigned k = 0; k < 3; k++)
			energy += b[i].mass * b[i].v[k] * b[i].v[k] + b[i].x[k];
	*(double *)memory = energy;
	bits = *(u64 *)memory;
	return bits;
}

/* The product of two n x n matrices of doubles; the bits of the sum of its elements. */
static u64 matrix(u64 n, u8 *memory)
{
	double *a = (double *)memory, *b = a + n * n, *c = b + n * n, sum = 0;

	for (u64 i = 0; i < n * n; i++) {
		a[i] = (double)(i % 97) * 0.5;
		b[i] = (double)(i % 89) - 44;
		c[i] = 0;
	}
	for (u64 i = 0; i < n; i++)
		for (u64 k = 0; k < n; k++) {
			double factor = a[i * n + k];

			for (u64 j = 0; j < n; j++)
				c[i * n + j] += factor * b[k * n + j];
		}
	for (u64 i = 0; i < n * n; i++)
		sum += c[i] * (double)(i % 7);
	*(double *)memory = sum;
	return *(u64 *)memory;
}

/* n turns of a little arithmetic, each depending on the last. */
static u64 loop(u64 n, u8 *memory)
{
	u64 x = 1;

	for (u64 i = 0; i < n; i++)
		x = (x + i) ^ x >> 7;
	return x;
}

__attribute__((section(".text.entry"), used)) u64 raw_run(u64 which, u64 n, u8 *memory)
{
	switch (which) {
	case 0:
		return sha256(n, memory);
	case 1:
		return quicksort(n, memory);
	case 2:
		return nbody(n, memory);
	case 3:
		return matrix(n, memory);
	case 4:
		return loop(n, memory);
	}
	return 0;
}
