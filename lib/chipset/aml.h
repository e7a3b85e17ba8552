/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A writer of ACPI Machine Language (ACPI 6.4, chapter 20): as much as our DSDT needs. */
#ifndef VC_CHIPSET_AML_H
#define VC_CHIPSET_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where AML goes. What does not fit is dropped and sets overflow: look at it once, at the end. */
struct vc_aml {
	uint8_t *data;
	size_t length, capacity;
	bool overflow;
};

/* Opcodes of terms with a package length; more than one byte: as the bytes follow each other in memory. */
enum vc_aml_op {
	VC_AML_SCOPE = 0x10,
	VC_AML_BUFFER = 0x11,
	VC_AML_PACKAGE = 0x12,
	VC_AML_METHOD = 0x14,
	VC_AML_IF = 0xa0,
	VC_AML_ELSE = 0xa1,
	VC_AML_WHILE = 0xa2,
	VC_AML_FIELD = 0x5b81,
	VC_AML_DEVICE = 0x5b82,
};

void vc_aml_bytes(struct vc_aml *aml, const void *bytes, size_t length);
void vc_aml_byte(struct vc_aml *aml, uint8_t byte);
/* A constant in its shortest form. */
void vc_aml_integer(struct vc_aml *aml, uint64_t value);
void vc_aml_string(struct vc_aml *aml, const char *string);
/* "PNP0501" as the compressed number that EisaId() makes. */
void vc_aml_eisa_id(struct vc_aml *aml, const char *id);
/* Name (NAME, ...): the value is to follow. */
void vc_aml_name(struct vc_aml *aml, const char *name);
/* _HID: letters and digits "PNPxxxx" become an EISA ID, any other identifier a string. */
void vc_aml_hid(struct vc_aml *aml, const char *id);

/* A term with a package length around whatever is written until close; give what open returned. Terms nest. */
size_t vc_aml_open(struct vc_aml *aml, enum vc_aml_op op);
void vc_aml_close(struct vc_aml *aml, size_t start);

/* Resource descriptors (ACPI 6.4, 6.4) of one _CRS. */
struct vc_aml_resources {
	uint8_t bytes[256];
	size_t length;
	bool overflow;
};
void vc_aml_io(struct vc_aml_resources *res, uint16_t base, uint8_t length);
void vc_aml_irq(struct vc_aml_resources *res, unsigned irq);       /* ISA: edge, active high, exclusive */
void vc_aml_interrupt(struct vc_aml_resources *res, uint32_t gsi); /* level, active high, exclusive */
void vc_aml_interrupt_edge(struct vc_aml_resources *res, uint32_t gsi);
void vc_aml_memory(struct vc_aml_resources *res, uint64_t base, uint64_t length);
/* Ranges that a bridge hands down to the bus behind it. */
void vc_aml_bus_window(struct vc_aml_resources *res, uint16_t first, uint16_t last);
void vc_aml_io_window(struct vc_aml_resources *res, uint16_t first, uint16_t last);
void vc_aml_memory_window(struct vc_aml_resources *res, uint64_t first, uint64_t last);
/* Name (_CRS, ResourceTemplate () { ... }) */
void vc_aml_crs(struct vc_aml *aml, const struct vc_aml_resources *res);

#endif
