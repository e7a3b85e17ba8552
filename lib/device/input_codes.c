/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of keys, as QMP has them (QKeyCode), and their Linux codes. */
#include <linux/input-event-codes.h>

#include "core/error.h"
#include "core/util.h"
#include "device/input.h"

static const struct {
	const char *name;
	uint16_t code;
} names[] = {
    /* clang-format off */
    {"esc", KEY_ESC}, {"1", KEY_1}, {"2", KEY_2}, {"3", KEY_3}, {"4", KEY_4}, {"5", KEY_5}, {"6", KEY_6},
    {"7", KEY_7}, {"8", KEY_8}, {"9", KEY_9}, {"0", KEY_0}, {"minus", KEY_MINUS}, {"equal", KEY_EQUAL},
    {"backspace", KEY_BACKSPACE}, {"tab", KEY_TAB}, {"q", KEY_Q}, {"w", KEY_W}, {"e", KEY_E}, {"r", KEY_R},
    {"t", KEY_T}, {"y", KEY_Y}, {"u", KEY_U}, {"i", KEY_I}, {"o", KEY_O}, {"p", KEY_P},
    {"bracket_left", KEY_LEFTBRACE}, {"bracket_right", KEY_RIGHTBRACE}, {"ret", KEY_ENTER}, {"ctrl", KEY_LEFTCTRL},
    {"a", KEY_A}, {"s", KEY_S}, {"d", KEY_D}, {"f", KEY_F}, {"g", KEY_G}, {"h", KEY_H}, {"j", KEY_J}, {"k", KEY_K},
    {"l", KEY_L}, {"semicolon", KEY_SEMICOLON}, {"apostrophe", KEY_APOSTROPHE}, {"grave_accent", KEY_GRAVE},
    {"shift", KEY_LEFTSHIFT}, {"backslash", KEY_BACKSLASH}, {"z", KEY_Z}, {"x", KEY_X}, {"c", KEY_C}, {"v", KEY_V},
    {"b", KEY_B}, {"n", KEY_N}, {"m", KEY_M}, {"comma", KEY_COMMA}, {"dot", KEY_DOT}, {"slash", KEY_SLASH},
    {"shift_r", KEY_RIGHTSHIFT}, {"kp_multiply", KEY_KPASTERISK}, {"asterisk", KEY_KPASTERISK}, {"alt", KEY_LEFTALT},
    {"spc", KEY_SPACE}, {"caps_lock", KEY_CAPSLOCK}, {"f1", KEY_F1}, {"f2", KEY_F2}, {"f3", KEY_F3}, {"f4", KEY_F4},
    {"f5", KEY_F5}, {"f6", KEY_F6}, {"f7", KEY_F7}, {"f8", KEY_F8}, {"f9", KEY_F9}, {"f10", KEY_F10},
    {"num_lock", KEY_NUMLOCK}, {"scroll_lock", KEY_SCROLLLOCK}, {"kp_7", KEY_KP7}, {"kp_8", KEY_KP8},
    {"kp_9", KEY_KP9}, {"kp_subtract", KEY_KPMINUS}, {"kp_4", KEY_KP4}, {"kp_5", KEY_KP5}, {"kp_6", KEY_KP6},
    {"kp_add", KEY_KPPLUS}, {"kp_1", KEY_KP1}, {"kp_2", KEY_KP2}, {"kp_3", KEY_KP3}, {"kp_0", KEY_KP0},
    {"kp_decimal", KEY_KPDOT}, {"less", KEY_102ND}, {"f11", KEY_F11}, {"f12", KEY_F12}, {"ro", KEY_RO},
    {"hiragana", KEY_HIRAGANA}, {"henkan", KEY_HENKAN}, {"katakanahiragana", KEY_KATAKANAHIRAGANA},
    {"muhenkan", KEY_MUHENKAN}, {"kp_enter", KEY_KPENTER}, {"ctrl_r", KEY_RIGHTCTRL}, {"kp_divide", KEY_KPSLASH},
    {"sysrq", KEY_SYSRQ}, {"print", KEY_SYSRQ}, {"alt_r", KEY_RIGHTALT}, {"lf", KEY_LINEFEED}, {"home", KEY_HOME},
    {"up", KEY_UP}, {"pgup", KEY_PAGEUP}, {"left", KEY_LEFT}, {"right", KEY_RIGHT}, {"end", KEY_END},
    {"down", KEY_DOWN}, {"pgdn", KEY_PAGEDOWN}, {"insert", KEY_INSERT}, {"delete", KEY_DELETE},
    {"audiomute", KEY_MUTE}, {"volumedown", KEY_VOLUMEDOWN}, {"volumeup", KEY_VOLUMEUP}, {"power", KEY_POWER},
    {"kp_equals", KEY_KPEQUAL}, {"pause", KEY_PAUSE}, {"kp_comma", KEY_KPCOMMA}, {"yen", KEY_YEN},
    {"meta_l", KEY_LEFTMETA}, {"meta_r", KEY_RIGHTMETA}, {"compose", KEY_COMPOSE}, {"menu", KEY_COMPOSE},
    {"stop", KEY_STOP}, {"again", KEY_AGAIN}, {"props", KEY_PROPS}, {"undo", KEY_UNDO}, {"front", KEY_FRONT},
    {"copy", KEY_COPY}, {"open", KEY_OPEN}, {"paste", KEY_PASTE}, {"find", KEY_FIND}, {"cut", KEY_CUT},
    {"help", KEY_HELP}, {"calculator", KEY_CALC}, {"sleep", KEY_SLEEP}, {"wake", KEY_WAKEUP}, {"mail", KEY_MAIL},
    {"ac_bookmarks", KEY_BOOKMARKS}, {"computer", KEY_COMPUTER}, {"ac_back", KEY_BACK}, {"ac_forward", KEY_FORWARD},
    {"audionext", KEY_NEXTSONG}, {"audioplay", KEY_PLAYPAUSE}, {"audioprev", KEY_PREVIOUSSONG},
    {"audiostop", KEY_STOPCD}, {"ac_home", KEY_HOMEPAGE}, {"ac_refresh", KEY_REFRESH}, {"f13", KEY_F13},
    {"f14", KEY_F14}, {"f15", KEY_F15}, {"f16", KEY_F16}, {"f17", KEY_F17}, {"f18", KEY_F18}, {"f19", KEY_F19},
    {"f20", KEY_F20}, {"f21", KEY_F21}, {"f22", KEY_F22}, {"f23", KEY_F23}, {"f24", KEY_F24},
    {"mediaselect", KEY_MEDIA},
    {"btn-left", BTN_LEFT}, {"btn-right", BTN_RIGHT}, {"btn-middle", BTN_MIDDLE}, {"btn-side", BTN_SIDE},
    {"btn-extra", BTN_EXTRA},
    /* clang-format on */
};

int vcore_input_code(const char *name)
{
	for (size_t i = 0; name && i < VC_ARRAY_SIZE(names); i++)
		if (!strcmp(names[i].name, name))
			return names[i].code;
	return vc_fail(ENOENT, "there is no key \"%.32s\": expected a name as QMP has it, such as a, ret, spc, ctrl, f1",
	               name ? name : "");
}
